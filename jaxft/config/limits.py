"""The limits of options, as types: a field `dropout: Rate | None` says what it may hold, and `check` finds that there.

A limit is a callable in the metadata of an `Annotated` type: it takes the dotted name of an option and its value, and raises
a UserError for a value that is not allowed. What relates several fields stands in the `check` of their section.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from jaxft.core.errors import UserError
from jaxft.core.urls import refuse_url

UNIONS = (typing.Union, types.UnionType)
MOST = 1e15  # of steps, epochs, examples and sizes; whole numbers up to here are exact as floats


def require(holds: bool, name: str, value: object, right: str) -> None:
    """Raise a UserError that names an option, its value and what would be right, unless the condition holds."""
    if not holds:
        raise UserError(f"{name} is {'empty' if value == '' else value}: must be {right}")


@dataclass(frozen=True)
class Limit:
    """A limit of one option.

    Attributes:
      right: what the option must be, in the words of the error.
      holds: whether a value is within the limit.
    """

    right: str
    holds: Callable[[Any], bool]

    def __call__(self, name: str, value: object) -> None:
        """Raise a UserError for a value that is outside the limit."""
        require(self.holds(value), name, value, self.right)


COUNTABLE = Limit(f"above 0 and at most {MOST:g}", lambda x: 0 < x <= MOST)
NON_NEGATIVE = Limit("0 or more", lambda x: 0 <= x < float("inf"))
DIFFERENT_COLUMNS = Limit("different columns", lambda x: 0 < len(set(x)) == len(x))

PositiveInt = Annotated[int, COUNTABLE]
PositiveFloat = Annotated[float, COUNTABLE]
FinitePositiveFloat = Annotated[float, Limit("a finite number above 0", lambda x: 0 < x < float("inf"))]
NonNegativeInt = Annotated[int, NON_NEGATIVE]
NonNegativeFloat = Annotated[float, NON_NEGATIVE]
Rate = Annotated[float, Limit("0 or more and below 1", lambda x: 0 <= x < 1)]
Fraction = Annotated[float, Limit("from 0 to 1", lambda x: 0 <= x <= 1)]
ProperFraction = Annotated[float, Limit("above 0 and below 1", lambda x: 0 < x < 1)]
Seed = Annotated[int, Limit("0 or more and below 2^32", lambda x: 0 <= x < 2**32)]
PathText = Annotated[str, refuse_url]
PathTexts = Annotated[str | list[str] | None, refuse_url]  # null stands in the union itself: jsonargparse reads it there


@dataclass(frozen=True)
class Section:
    """A section of the config, which is a frozen dataclass whose types hold the limits of its fields."""

    def check(self, prefix: str) -> None:
        """Check what relates several fields.

        Args:
          prefix: what stands before the names of the fields in errors, such as `data.`.

        Raises:
          UserError: naming the fields.
        """


def check(section: Section, prefix: str = "") -> None:
    """Check every field of a section and of the sections in it, and then what relates several fields.

    Raises:
      UserError: naming the field, the value received and what would be right.
    """
    kinds = typing.get_type_hints(type(section), include_extras=True)
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if isinstance(value, Section):
            check(value, f"{prefix}{field.name}.")
            continue
        for limit in _limits(kinds[field.name], value):
            limit(prefix + field.name, value)
    section.check(prefix)


def _limits(kind: Any, value: object) -> Iterator[Callable[[str, object], None]]:
    """The limits of a type that apply to a value: in a union, those of the alternatives that the value may be of."""
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
