"""Which commands use an option: a mark in the metadata of its `Annotated` type, or else of its section."""

from enum import Flag, auto
from typing import Any, TypeVar

T = TypeVar("T")


class UsedBy(Flag):
    """The commands beside `jaxft train` whose result an option changes; the help of each lists only these options."""

    PLAN = auto()
    EVALUATE = auto()


TRAIN_ONLY, PLAN_AND_EVALUATE = UsedBy(0), UsedBy.PLAN | UsedBy.EVALUATE


def mark_of(kind: Any, mark: type[T], default: T) -> T:
    """The object of the class `mark` in the metadata of an `Annotated` type."""
    return next((x for x in getattr(kind, "__metadata__", ()) if isinstance(x, mark)), default)
