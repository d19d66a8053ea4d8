"""Reads and writes the bodies of requests and answers."""

import asyncio
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from jaxft.serving.limits import Limits
from jaxft.serving.refusals import ClientLeft, Refused


async def read_json(request: Request, limits: Limits) -> Any:
    """The JSON value of a body.

    Raises:
      Refused: for a body that is too large, comes too slowly, or is not JSON.
      ClientLeft: if the client has left.
    """
    most = limits.body_bytes
    too_large = Refused("TooLarge", f"the body has more than {most:,} bytes", {"connection": "close"})
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        text = f"the body did not come within {limits.body_seconds:g} s"
        raise Refused("Timeout", text, {"connection": "close"}) from None
    except ClientDisconnect:
        raise ClientLeft from None
    try:
        return orjson.loads(bytes(body))
    except orjson.JSONDecodeError as error:
        raise Refused("Malformed", f"the body is not JSON: {error}") from None


class JSON(Response):
    """An answer in JSON; numpy's arrays are lists."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
