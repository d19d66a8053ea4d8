"""How labels are written: the same number written in two ways is one label, or an error, and never another label."""

import re
from collections.abc import Callable, Collection, Sequence
from decimal import Decimal, InvalidOperation

from jaxft.core.errors import UserError

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
# What stands for a whole number everywhere; 07 may be a code, and 1.10 a version.
_WHOLE = re.compile(r"-?(0|[1-9]\d*)(\.0*)?")
_TRUTH = {"false": Decimal(0), "true": Decimal(1)}
_GENERIC = re.compile(r"LABEL_(0|[1-9]\d*)")


def number_of(text: str) -> Decimal | None:
    """The number that a text is, exactly; None for other text."""
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return None


def keys(labels: Sequence[str]) -> list[Decimal | str]:
    """What each label is: a number, or its text. `true` and `false` are 1 and 0 where all labels are so or numbers."""
    numbers = [number_of(label) for label in labels]
    if all(n is not None or label.lower() in _TRUTH for label, n in zip(labels, numbers, strict=True)):
        return [_TRUTH[label.lower()] if n is None else n for label, n in zip(labels, numbers, strict=True)]
    return [label if n is None else n for label, n in zip(labels, numbers, strict=True)]


def in_order(labels: Collection[str], where: str) -> list[str]:
    """Different labels that nobody has put in order: numbers, and LABEL_0, LABEL_1 ..., by number, otherwise by name.

    Args:
      labels: as they are written.
      where: their file and column, for messages.

    Raises:
      UserError: when two of them are one number.
    """
    names = sorted(set(labels))
    found: dict[Decimal | str, str] = {}
    for name, key in zip(names, keys(names), strict=True):
        if (other := found.setdefault(key, name)) != name:
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
    """Whether labels are the numbers of so many others: 0, 1 and so on."""
    return len(labels) == count and set(map(_whole, labels)) == set(map(Decimal, range(count)))


def same_labels(some: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two lists are the same labels, in any order and spelling."""
    return len(some) == len(others) and set(keys(some)) == set(keys(others))


def finder(names: Sequence[str]) -> Callable[[str], int | None]:
    """A function from a label as it is written to its id; None where it is not one of `names`.

    A label is found by its name, by the number that its name is (1.0 and, where all names are numbers or truth values, true
    for 1), and by its id where no name is a number.
    """
    by_name = {name: i for i, name in enumerate(names)}
    own = keys(names)
    truth = all(isinstance(key, Decimal) for key in own)
    by_number: dict[Decimal, int | None] = {}
    if any(isinstance(key, Decimal) for key in own):
        for i, name in enumerate(names):
            if (number := _whole(name, truth)) is not None:
                by_number[number] = None if number in by_number else i
    else:
        by_number = {Decimal(i): i for i in range(len(names))}

    def find(text: str) -> int | None:
        if text in by_name:
            return by_name[text]
        number = _whole(text, truth)
        return None if number is None else by_number.get(number)

    return find


def twin(text: str, names: Sequence[str]) -> str | None:
    """The name that is the same number as a label that was not found, for a message."""
    number = number_of(text)
    return None if number is None else next((name for name in names if number_of(name) == number), None)


def _whole(text: str, truth: bool = False) -> Decimal | None:
    """The whole number that a text plainly is."""
    if truth and text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    return Decimal(text) if _WHOLE.fullmatch(text) else None
