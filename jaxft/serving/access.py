"""What surrounds every request: the key, the log, the numbers, and the form of refusals."""

import hmac
import json
import logging
import sys
import time
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jaxft.serving.bodies import JSON
from jaxft.serving.meter import Meter
from jaxft.serving.refusals import Refused

OPEN = frozenset({"/", "/health", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"})
LEFT = 499  # the client has left, as nginx logs it


class Log:
    """Writes one line per request to stderr: JSON, or words."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)

    def __call__(self, row: dict[str, Any]) -> None:
        """Write a row."""
        if self._kind == "none":
            return
        if self._kind == "json":
            line = json.dumps(row, ensure_ascii=False)
        else:
            more = "".join(f", {name} {x}" for name, x in row.items() if name not in _FIRST and x not in (None, 0))
            line = f"{row['client']} {row['method']} {row['path']} {row['status']} in {row['seconds']:.4f} s{more}"
        print(line, file=sys.stderr, flush=True)


_FIRST = {"time", "client", "method", "path", "status", "seconds"}


class Access:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, key: str | None, meter: Meter, log: Log, known: frozenset[str]) -> None:
        self._app, self._key, self._meter, self._log, self._known = app, key, meter, log, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and note it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), LEFT
        scope.setdefault("state", {})
        note = scope["state"]["note"] = {}

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        request = Request(scope)
        if self._key is not None and request.url.path not in OPEN and not _has_key(request, self._key):
            text = "the request needs the server's key: authorization: Bearer KEY"
            refused = Refused("Unauthorized", text, {"www-authenticate": "Bearer"})
            await JSON(refused.body(), refused.status, headers=dict(refused.headers))(scope, receive, noting)
            note["err"] = refused.kind
        else:
            await self._app(scope, receive, noting)
        self._finish(scope, request, status, time.perf_counter() - begin, note)

    def _finish(self, scope: Scope, request: Request, status: int, seconds: float, note: dict[str, Any]) -> None:
        route = getattr(scope.get("route"), "path", None) or request.url.path
        path = route if route in self._known else "other"  # or anybody could make any number of time series
        self._meter.requests.labels(path).inc()
        self._meter.seconds.labels(path).observe(seconds)
        if status < 400:
            self._meter.answers.labels(path).inc()
        else:
            self._meter.failures.labels(path, note.get("err", str(status))).inc()
        client = scope["client"][0] if scope.get("client") else "-"
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        row = {"time": now, "client": client, "method": request.method, "path": request.url.path, "status": status}
        self._log(row | {"seconds": round(seconds, 6)} | note)


def _has_key(request: Request, key: str) -> bool:
    given = request.headers.get("authorization", "")
    return hmac.compare_digest(given.encode(), f"Bearer {key}".encode())
