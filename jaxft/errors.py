"""The one exception that is an answer to the user: what is wrong, where, and what would be right."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Bad input. Entry points print its text as one line and exit with code 2; `--debug` shows the traceback."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean "x"?` for the closest valid name, or the empty string when nothing is close."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def some(items: Sequence[str], most: int = 5) -> str:
    """The first few items, and how many more."""
    if not items:
        return "none"
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def one_line(text: object) -> str:
    """Any message folded to a single line."""
    return " ".join(str(text).split())
