"""The application: routes, answers and refusals."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route as Path
from starlette.types import ASGIApp

from jaxft.serving import embeddings, kserve, labels, openapi, pipeline_routes
from jaxft.serving.access import Access, Log
from jaxft.serving.bodies import JSON, read_json
from jaxft.serving.call import Call, Route
from jaxft.serving.fields import parsed
from jaxft.serving.information import information, tokens_of
from jaxft.serving.refusals import ClientLeft, Refused
from jaxft.serving.service import Service

ROUTES = (*labels.ROUTES, *embeddings.ROUTES, *pipeline_routes.ROUTES, tokens_of(), kserve.INFER)
OPENAI = "/v1/"  # below it, refusals have OpenAI's form


def make_app(service: Service, *, key: str | None = None, log: str = "text") -> ASGIApp:
    """The ASGI application of a service, which compiles all programs when it starts.

    Args:
      service: the models.
      key: that requests need as `authorization: Bearer KEY`; None for no key.
      log: json, text or none.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        warming = asyncio.ensure_future(asyncio.to_thread(service.warm_up))
        yield
        await warming
        await asyncio.to_thread(service.engine.close)

    get = partial(Path, methods=["GET"])
    paths = [
        get("/", lambda request: HTMLResponse(files("jaxft.serving").joinpath("page.html").read_text(encoding="utf-8"))),
        get("/health", partial(_health, service)),
        get("/info", lambda request: JSON(information(service, ROUTES))),
        get("/metrics", lambda request: Response(service.meter.text(), media_type="text/plain; version=0.0.4")),
        get("/docs", lambda request: HTMLResponse(openapi.page(ROUTES))),
        get("/openapi.json", lambda request: JSON(openapi.document(ROUTES, version("jaxft")))),
        get("/v1/models", partial(_listed_models, service)),
        get("/v2", lambda request: JSON({"name": "jaxft", "version": version("jaxft"), "extensions": []})),
        get("/v2/health/live", lambda request: JSON({"live": True})),
        get("/v2/health/ready", partial(_health, service)),
        get("/v2/models/{model}", partial(_model, service)),
        get("/v2/models/{model}/ready", partial(_model, service)),
        *(Path(route.path, _answers(service, route), methods=["POST"]) for route in ROUTES),
    ]
    handlers: Any = {HTTPException: _no_route}
    app = Starlette(routes=paths, lifespan=lifespan, exception_handlers=handlers)
    return Access(app, key, service.meter, Log(log), frozenset(x.path for x in paths))


def _answers(service: Service, route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        note = request.scope["state"]["note"]
        try:
            return await _answer(service, route, request, note)
        except Refused as refused:
            note["err"] = refused.kind
            return _refusal(refused, route.path)
        except ClientLeft:
            note["err"] = "ClientLeft"
            return Response(status_code=499)
        except Exception as error:  # noqa: BLE001 - of a program or the device; the server goes on
            note["err"] = "Backend"
            note["why"] = f"{type(error).__name__}: {error}"[:500]
            return _refusal(Refused("Backend", "the model could not be applied; the server's log says why"), route.path)

    return answer


async def _answer(service: Service, route: Route, request: Request, note: dict[str, Any]) -> Response:
    client = request.client.host if request.client else "-"
    with service.accepted(client):
        body = await read_json(request, service.limits)
        values = parsed(body, route.fields)
        name = service.name_of(request.path_params.get("model", values.get("model")))
        route.check(name, service.models[name], ROUTES)
        call = Call(service, name, values, partial(_left, request), note)
        found = await route.run(call)
        headers = {"x-truncated": str(note["truncated"])} if note.get("truncated") else {}
        return JSON(found, headers=headers)


async def _left(request: Request) -> None:
    """Return once the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refusal(refused: Refused, path: str) -> Response:
    body: Mapping[str, Any] = refused.body()
    if path.startswith(OPENAI):
        body = {"error": {"message": refused.text, "type": refused.kind, "param": None, "code": refused.status}}
    return JSON(body, refused.status, headers=dict(refused.headers))


def _no_route(request: Request, error: HTTPException) -> Response:
    """For an unknown path or method."""
    paths = ", ".join(route.path for route in ROUTES)
    request.scope["state"]["note"]["err"] = "Method" if error.status_code == 405 else "NotFound"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return _refusal(
            Refused("Method", f"{request.method} {request.url.path}: must be {allowed}", error.headers or {}), "/"
        )
    return _refusal(Refused("NotFound", f"there is no {request.url.path:.100}: the routes are {paths}"), request.url.path)


def _health(service: Service, request: Request) -> Response:
    if service.ready:
        return JSON({"status": "ready"})
    return _refusal(Refused("Unhealthy", "the models are being compiled", {"retry-after": "1"}), "/")


def _model(service: Service, request: Request) -> Response:
    name = request.path_params["model"]
    try:
        service.name_of(name)
    except Refused as refused:
        return _refusal(refused, "/")
    if request.url.path.endswith("/ready"):
        return _health(service, request)
    return JSON(kserve.metadata(name, service.models[name]))


def _listed_models(service: Service, request: Request) -> Response:
    data = [{"id": name, "object": "model", "owned_by": "jaxft"} for name in service.models]
    return JSON({"object": "list", "data": data})
