"""The limits of options, as types: a field `dropout: Rate | None` says what it may hold, and `validate` finds that there.

A limit is a callable in the metadata of an `Annotated` type: it takes the dotted name of an option and its value, and raises
a UserError for a value that is not allowed. What relates several fields is in the `check` of their section.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from jaxft.config.used_by import UsedBy
from jaxft.core.errors import UserError
from jaxft.core.paths import check_url, refuse_url

UNIONS = (typing.Union, types.UnionType)
MOST = 1e15  # of steps, epochs, examples and sizes; whole numbers up to here are exact as floats


def require(holds: bool, name: str, value: object, right: str) -> None:
    """Raise a UserError that says what the option `name` must be, unless the condition holds."""
    if not holds:
        raise UserError(f"{name} is {shown(value)}: must be {right}")


def shown(value: object) -> str:
    """A value of an option as messages show it: as YAML has it, and `empty` for an empty text."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return "empty" if value == "" else str(value)


@dataclass(frozen=True)
class Limit:
    """A limit of one option: `holds` tells whether a value is within it, and `right` is what the error says it must be."""

    right: str
    holds: Callable[[Any], bool]

    def __call__(self, name: str, value: object) -> None:
        """Raise a UserError for a value that is outside the limit."""
        require(self.holds(value), name, value, self.right)


def one_of(*names: str) -> Limit:
    """The limit of an option that is one of these texts."""
    return Limit(f"one of {', '.join(names)}", lambda x: x in names)


POSITIVE = Limit("above 0", lambda x: x > 0)
COUNTABLE = Limit(f"at most {MOST:g}", lambda x: x <= MOST)
NON_NEGATIVE = Limit("0 or more", lambda x: 0 <= x < float("inf"))

PositiveInt = Annotated[int, POSITIVE, COUNTABLE]
PositiveFloat = Annotated[float, POSITIVE, COUNTABLE]
FinitePositiveFloat = Annotated[float, Limit("a finite number above 0", lambda x: 0 < x < float("inf"))]
NonNegativeInt = Annotated[int, NON_NEGATIVE]
NonNegativeFloat = Annotated[float, NON_NEGATIVE]
Rate = Annotated[float, Limit("0 or more and below 1", lambda x: 0 <= x < 1)]
Fraction = Annotated[float, Limit("from 0 to 1", lambda x: 0 <= x <= 1)]
ProperFraction = Annotated[float, Limit("above 0 and below 1", lambda x: 0 < x < 1)]
Seed = Annotated[int, Limit("0 or more and below 2^32", lambda x: 0 <= x < 2**32)]
LocalPathText = Annotated[str, refuse_url]
PathText = Annotated[str, check_url]  # a path or a URL
PathTexts = Annotated[str | list[str] | None, check_url]  # null stands in the union itself: jsonargparse reads it there


@dataclass(frozen=True)
class Section:
    """A section of the config: a frozen dataclass whose types hold the limits of its fields.

    `used_by` holds for the fields whose types have no `UsedBy` of their own.
    """

    used_by = UsedBy.PLAN

    def validate(self, prefix: str = "") -> None:
        """Check every field, also of the sections in this one; errors name fields with a prefix such as `data.`."""
        kinds = typing.get_type_hints(type(self), include_extras=True)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Section):
                value.validate(f"{prefix}{field.name}.")
            for limit in _limits(kinds[field.name], value):
                limit(prefix + field.name, value)
        self.check(prefix)

    def check(self, prefix: str) -> None:
        """Check what relates several fields; called by `validate`."""


def _limits(kind: Any, value: object) -> Iterator[Callable[[str, object], None]]:
    """The limits of a type that apply to a value; of a union, those of the alternatives that the value may be of."""
    if typing.get_origin(kind) is Annotated:
        if value is not None and _may_be(kind.__origin__, value):
            yield from filter(callable, kind.__metadata__)
        yield from _limits(kind.__origin__, value)
    elif typing.get_origin(kind) in UNIONS:
        for alternative in typing.get_args(kind):
            yield from _limits(alternative, value)


def _may_be(kind: Any, value: object) -> bool:
    base = typing.get_origin(kind) or kind
    if base in UNIONS or not isinstance(base, type):
        return True
    return isinstance(value, (int, float) if base is float else base)
