"""The fields of a request: what each may hold, for checks and for the description in OpenAPI."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxft.core.errors import nearest
from jaxft.serving.refusals import Refused

REQUIRED: Any = object()
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """What a field may hold: its schema, words for messages, and a test."""

    schema: Schema
    words: str
    test: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(x, str) for x in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
TEXT = Kind(_TEXT, "a text", _is_text)
TEXTS = Kind(_TEXTS, "a list of texts", _are_texts)
ONE_OR_MORE = Kind({"oneOf": [_TEXT, _TEXTS]}, "a text or a list of texts", lambda x: _is_text(x) or _are_texts(x))
FLAG = Kind({"type": "boolean"}, "true or false", lambda x: isinstance(x, bool))
FLAG_OR_NULL = Kind({"type": ["boolean", "null"]}, "true, false or null", lambda x: isinstance(x, bool | None))
COUNT = Kind({"type": "integer", "minimum": 1}, "a whole number of at least 1", _is_count)
OBJECT = Kind({"type": "object"}, "an object", lambda x: isinstance(x, dict))
ANY = Kind({}, "anything", lambda x: True)


def choice(*values: str) -> Kind:
    """One of some texts."""
    return Kind(
        {"enum": list(values)}, f"one of {', '.join(values)}", lambda x: x in values if isinstance(x, str) else False
    )


@dataclass(frozen=True)
class Field:
    """A field of a request: what it may hold, what it is without one, and what it means."""

    kind: Kind
    default: Any
    about: str


def parsed(body: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The value of every field.

    Raises:
      Refused: for a body that is no object, an unknown or missing field, or a value that a field cannot have.
    """
    if not isinstance(body, dict):
        raise Refused("Validation", f"the body is {_shown(body)}: must be an object with {', '.join(fields)}")
    for name in body:
        if name not in fields:
            raise Refused(
                "Validation", f'unknown field "{name:.100}"{nearest(name, fields)}; the fields are {", ".join(fields)}'
            )
    found = {}
    for name, field in fields.items():
        value = body.get(name, field.default)
        if value is REQUIRED:
            raise Refused("Validation", f"{name} is missing: must be {field.kind.words}")
        if name in body and not field.kind.test(value):
            raise Refused("Validation", f"{name} is {_shown(value)}: must be {field.kind.words}")
        found[name] = value
    return found


def _shown(value: Any) -> str:
    return f"{value!r:.100}"
