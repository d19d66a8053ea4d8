"""jaxft serve MODEL [MODEL ...]: answer requests over HTTP, in batches.

A model is PATH or NAME=PATH: a run or model directory, an adapter, a hub id or package:NAME/SUBDIR."""

import asyncio
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxft.config import cli
from jaxft.core.errors import UserError

PROG = "jaxft serve"
KEY = "JAXFT_API_KEY"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SPARE_FILES = 256  # beside connections
DRAIN = 60  # seconds in which requests that have been accepted are answered after SIGTERM


def main(argv: list[str]) -> None:
    """Serve until SIGTERM or SIGINT; requests that have been accepted are answered first."""
    args = _parser().parse_args(argv)
    try:
        import uvicorn  # noqa: F401

        from jaxft.serving import app as _  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"serving needs the package {error.name}: pip install 'jaxft[serve]'") from None
    from jaxft.serving.app import make_app
    from jaxft.serving.limits import Limits
    from jaxft.serving.models import names_of, open_models
    from jaxft.serving.service import Service

    key = args.api_key or os.environ.get(KEY) or None
    if (args.tls_key is None) != (args.tls_certificate is None):
        raise UserError("--tls_key and --tls_certificate are files that belong together: give both")
    for option, path in (("--tls_key", args.tls_key), ("--tls_certificate", args.tls_certificate)):
        if path is not None and not Path(path).is_file():
            raise UserError(f"{option} {path}: there is no such file")
    paths = names_of(args.models)
    listening = _listen(args.host, args.port)
    with listening:
        options: dict[str, Any] = {"max_length": args.max_length, "dtype": args.dtype, "task": args.task}
        models, shared = open_models(paths, **options)
        for name, each in models.items():
            if args.pooling and each.task == "feature-extraction":
                each.options = each.merged({"pooling": args.pooling})
            print(f"{name}: {each.task}, texts of up to {each.longest} tokens", file=sys.stderr)
        if shared:
            print(f"{shared / 1e6:,.1f} MB of equal parameters are kept once", file=sys.stderr)
        limits = Limits(
            body_bytes=args.max_body_bytes,
            body_seconds=args.body_timeout,
            texts=args.max_texts,
            batch_tokens=args.max_batch_tokens,
            requests=args.max_requests,
            client_requests=args.max_client_requests,
            truncate=args.truncate,
        )
        service = Service(models, limits)
        scheme, port = "https" if args.tls_key else "http", listening.getsockname()[1]
        where = f"{scheme}://{f'[{args.host}]' if ':' in args.host else args.host}:{port}"
        if args.host not in LOOPBACK and key is None:
            print(
                f"everybody who reaches {args.host} can use the models: --api_key or {KEY} asks for a key", file=sys.stderr
            )
        _raise_open_files()
        asyncio.run(_serve(make_app(service, key=key, log=args.log), listening, service, where, args))


def _server_class() -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        """uvicorn's server, which would raise a signal again after all requests are answered, and so end with its code."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """The first signal ends the server after its requests, the second at once."""
            before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    return Server


async def _serve(app: Any, listening: socket.socket, service: Any, where: str, args: Any) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        ssl_keyfile=args.tls_key,
        ssl_certfile=args.tls_certificate,
        timeout_keep_alive=args.keep_alive,
        timeout_graceful_shutdown=DRAIN,
        h11_max_incomplete_event_size=65_536,
        backlog=2048,
    )
    server = _server_class()(config)

    async def announce() -> None:
        while not service.ready and not server.should_exit:
            await asyncio.sleep(0.05)
        if service.ready:
            print(f"ready at {where} (routes: {where}/docs); {_example(service, where)}", file=sys.stderr, flush=True)

    announcing = asyncio.ensure_future(announce())
    await server.serve(sockets=[listening])
    announcing.cancel()


def _example(service: Any, where: str) -> str:
    """A command to try the first model."""
    import json

    from jaxft.serving.app import ROUTES

    task = next(iter(service.models.values())).task
    route = next(x for x in ROUTES if task in x.tasks)
    body = json.dumps(dict(route.example))
    return f"try it: curl -s {where}{route.path} -H 'content-type: application/json' -d '{body}'"


def _listen(host: str, port: int) -> socket.socket:
    """A socket that is bound before models are loaded, so that a port in use is an error at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise UserError(f"--host {host} --port {port}: {error.strerror or error}; choose another port") from None
    except OverflowError:
        listening.close()
        raise UserError(f"--port {port}: must be from 0 to 65535") from None
    return listening


def _raise_open_files() -> None:
    """Let the server have as many connections as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _parser() -> cli.Parser:
    parser = cli.Parser(prog=PROG, description=__doc__)
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL")
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 for all (default: 127.0.0.1)")
    add("--port", type=int, default=8080, help="0 for any that is free (default: 8080)")
    add(
        "--task",
        help="for all models: feature-extraction gives embeddings of any model (default: what each was trained for)",
    )
    add("--pooling", choices=("mean", "cls", "pooled"), help="of embeddings (default: mean)")
    add("--max_length", type=_count, help="tokens of the longest text (default: as in training)")
    add("--truncate", action="store_true", help="cut texts that are too long; without it they are refused")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of activations and products")
    add("--max_batch_tokens", type=_count, default=16_384, help="tokens that run together (default: 16384)")
    add("--max_texts", type=_count, default=128, help="inputs of a request (default: 128)")
    add("--max_body_bytes", type=_count, default=2_000_000, help="of a request (default: 2000000)")
    add("--body_timeout", type=_seconds, default=30.0, help="seconds until the body of a request has come (default: 30)")
    add("--keep_alive", type=_count, default=75, help="seconds that an idle connection is kept (default: 75)")
    add("--max_requests", type=_count, default=512, help="that are answered at once (default: 512)")
    add("--max_client_requests", type=_count, help="the same, of one address (default: no limit of its own)")
    add("--api_key", help=f"that requests need as authorization: Bearer KEY (default: ${KEY}, or none)")
    add("--tls_key", metavar="FILE", help="private key, for https")
    add("--tls_certificate", metavar="FILE", help="certificate, for https")
    add("--log", choices=("text", "json", "none"), default="text", help="one line per request on stderr (default: text)")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


if __name__ == "__main__":
    cli.run_main(main)
