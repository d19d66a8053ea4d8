# An image that serves models (docs/serving.md): in a checkout,
#   docker build -f jobs/serve.Dockerfile -t jaxft-serve .
#   docker run -p 8080:8080 -e JAXFT_API_KEY=secret -v $PWD/runs/banking77/model:/model:ro jaxft-serve /model
# Next to the checkout, .dockerignore should name .git, .venv and runs. BACKEND is cpu, cuda or tpu.
FROM python:3.12-slim
ARG BACKEND=cpu
WORKDIR /jaxft
COPY pyproject.toml README.md LICENSE ./
COPY jaxft jaxft
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[serve$(test "$BACKEND" = cpu || echo ",$BACKEND")]" \
    && useradd --create-home --uid 1000 server
USER 1000
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=180s CMD ["python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/health', timeout=2)"]
ENTRYPOINT ["jaxft", "serve", "--host", "0.0.0.0", "--log", "json"]
CMD ["/model"]
