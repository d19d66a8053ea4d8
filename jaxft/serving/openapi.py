"""The description of the routes in OpenAPI 3.1, and as a page."""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxft.serving.call import Route
from jaxft.serving.fields import REQUIRED, Field
from jaxft.serving.refusals import STATUS

ANSWERS = {
    401: "no key, or a wrong one",
    404: "no such model or route",
    408: "the body came too slowly",
    413: "too much: bytes, inputs, or tokens of a text",
    422: "a field is missing, unknown, or has a value that it cannot have",
    429: "too many requests are being answered",
    503: "the models are being compiled",
}


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The description of all routes that take a body."""
    refused = {"$ref": "#/components/schemas/Refused"}
    responses: dict[str, Any] = {
        str(status): {"description": words, "content": {"application/json": {"schema": refused}}}
        for status, words in ANSWERS.items()
    }
    paths = {
        route.path: {
            "post": {
                "summary": route.about,
                "operationId": route.path.strip("/").replace("/", "_").replace("{model}", "model"),
                "requestBody": {"required": True, "content": {"application/json": _body(route)}},
                "responses": {"200": {"description": "the answer", "content": {"application/json": {}}}} | responses,
                **({"parameters": [_PATH]} if "{model}" in route.path else {}),
            }
        }
        for route in routes
    }
    kinds = {"type": "string", "enum": list(STATUS)}
    schema = {"type": "object", "properties": {"error": {"type": "string"}, "error_type": kinds}}
    security = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
    info = {"title": "jaxft", "version": version}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": {"Refused": schema}, **security}}


_PATH = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}


def _body(route: Route) -> dict[str, Any]:
    fields = {name: _schema(field) for name, field in route.fields.items()}
    required = [name for name, field in route.fields.items() if field.default is REQUIRED]
    schema = {"type": "object", "properties": fields, "required": required, "additionalProperties": False}
    return {"schema": schema, "example": dict(route.example)}


def _schema(field: Field) -> Mapping[str, Any]:
    default = {} if field.default is REQUIRED or field.default is None else {"default": field.default}
    return {**field.kind.schema, "description": field.about, **default}


def page(routes: Sequence[Route]) -> str:
    """The description as a page of HTML, which loads no other file."""
    parts = []
    for route in routes:
        rows = "".join(
            f"<tr><td><code>{html.escape(name)}</code>{'' if field.default is not REQUIRED else ' (needed)'}</td>"
            f"<td>{html.escape(field.about)}</td></tr>"
            for name, field in route.fields.items()
        )
        body = html.escape(json.dumps(dict(route.example)).replace("'", "'\\''"))
        call = f"curl -s localhost:8080{html.escape(route.path)} -H 'content-type: application/json' -d '{body}'"
        parts.append(
            f"<h2>POST {html.escape(route.path)}</h2><p>{html.escape(route.about)}</p><table>{rows}</table><pre>{call}</pre>"
        )
    style = (
        "body{font:16px sans-serif;max-width:50em;margin:2em auto;padding:0 1em}"
        "td{padding:.2em 1em .2em 0;vertical-align:top}pre{background:#eee;padding:.6em;overflow:auto}"
    )
    head = f"<!doctype html><meta charset=utf-8><title>jaxft: routes</title><style>{style}</style>"
    also = (
        "<p>GET <a href=health>/health</a>, <a href=info>/info</a>, <a href=metrics>/metrics</a>, "
        "<a href=openapi.json>/openapi.json</a>, /v2, /v2/health/live, /v2/health/ready, /v2/models/MODEL; "
        "POST /tokenize. <a href=./>Try a model</a>.</p>"
    )
    return f"{head}<h1>Routes</h1>{also}{''.join(parts)}"
