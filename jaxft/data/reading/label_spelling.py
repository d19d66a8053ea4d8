"""Spellings of labels: one number written in two ways is one label or an error, but never two labels."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from decimal import Decimal, InvalidOperation

from jaxft.core.errors import UserError

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
# Text that is certainly a whole number; 07 may be a code, and 1.10 a version.
_WHOLE = re.compile(r"-?(0|[1-9]\d*)(\.0*)?")
_TRUTH = {"false": Decimal(0), "true": Decimal(1)}
_GENERIC = re.compile(r"LABEL_(0|[1-9]\d*)")


def number_of(text: str) -> Decimal | None:
    """The exact number that a text represents; None if it is not a number."""
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return None


def keys(labels: Sequence[str]) -> list[Decimal | str]:
    """For each label its number, or its text if it is none. If all are numbers or true/false, true is 1 and false is 0."""
    numbers = [number_of(label) for label in labels]
    if all(n is not None or label.lower() in _TRUTH for label, n in zip(labels, numbers, strict=True)):
        return [_TRUTH[label.lower()] if n is None else n for label, n in zip(labels, numbers, strict=True)]
    return [label if n is None else n for label, n in zip(labels, numbers, strict=True)]


def in_order(labels: Collection[str], where: str) -> list[str]:
    """Sorts the distinct labels: numbers, and LABEL_0, LABEL_1 ..., by number, all others by name.

    Raises a UserError if two of them are the same number.
    """
    names = sorted(set(labels))
    by_key: dict[Decimal | str, str] = {}
    for name, key in zip(names, keys(names), strict=True):
        if (other := by_key.setdefault(key, name)) != name:
            raise UserError(
                f'{where}: has the labels "{other}" and "{name}", one number written in two ways: write it in one, or name '
                "all labels in task.labels if they are two"
            )
    if all(_GENERIC.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: Decimal(name.rpartition("_")[2]))
    if all(number_of(name) is not None for name in names):
        return sorted(names, key=Decimal)
    return names


def are_numbers(labels: Sequence[str], count: int) -> bool:
    """Whether the labels are the numbers 0 to `count - 1`, in any order."""
    return len(labels) == count and set(map(_whole, labels)) == set(map(Decimal, range(count)))


def same_labels(some: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two lists contain the same labels, in any order and spelling."""
    return len(some) == len(others) and set(keys(some)) == set(keys(others))


def finder(names: Sequence[str]) -> Callable[[str], int | None]:
    """Returns a function from a label, as it is written, to its id, or to None if it is not one of `names`.

    A label matches by its name, or by the number that its name represents (1.0 matches 1, and if all names are numbers or
    truth values, so does true). If no name is a number, a label also matches by its id.
    """
    by_name = {name: i for i, name in enumerate(names)}
    are_numeric = [isinstance(key, Decimal) for key in keys(names)]
    truth = all(are_numeric)
    numbers = [_whole(name, truth) for name in names] if any(are_numeric) else [*map(Decimal, range(len(names)))]
    counts = Counter(numbers)
    by_number = {number: i for i, number in enumerate(numbers) if counts[number] == 1}

    def find(text: str) -> int | None:
        if text in by_name:
            return by_name[text]
        number = _whole(text, truth)
        return None if number is None else by_number.get(number)

    return find


def same_number(text: str, names: Sequence[str]) -> str | None:
    """The name that is the same number as an unknown label, for a message; None if there is none."""
    number = number_of(text)
    return None if number is None else next((name for name in names if number_of(name) == number), None)


def _whole(text: str, truth: bool = False) -> Decimal | None:
    """The whole number that a text certainly represents; None for other text."""
    if truth and text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    return Decimal(text) if _WHOLE.fullmatch(text) else None
