"""The exception for user mistakes: it says what is wrong, where, and what would be right."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

RESTART = 142  # exit code, 128 + SIGALRM: schedulers start a run again after a code from 128 on (docs/pods.md)
LONG_WORD, LONG_TEXT = 400, 2000  # characters of a message; a path of a real file is seldom longer
_names: dict[str, str] = {}  # local path -> the URL that it is a copy of


class UserError(Exception):
    """Bad input. Entry points print its text as one line and exit with `code`; `--debug` shows the traceback.

    The text may quote a file at any length; `shortened` cuts it.
    """

    code = 2

    def __init__(self, text: object) -> None:
        super().__init__(shortened(shown(str(text))))


def show_as(path: str, name: str) -> None:
    """From now on, messages call a local path, and what is below it, by the name that the user gave."""
    _names[path] = name


def shown(text: str) -> str:
    """A message in which paths have the names that `show_as` gave them."""
    for path, name in list(_names.items()):
        text = text.replace(path, name)
    return text


class CallbackError(UserError):
    """A callback of the user's failed; its own exception is the cause."""


def shortened(text: str) -> str:
    """A message with the middle of overlong words, and of an overlong text, cut out."""
    text = re.sub(rf"\S{{{LONG_WORD + 1},}}", lambda word: f"{word[0][:120]}...{word[0][-60:]}", text)
    return text if len(text) <= LONG_TEXT else f"{text[:1400]} ... {text[-400:]}"


@contextmanager
def naming(option: str, *, instead_of: str) -> Iterator[None]:
    """In messages, name what the user gave instead of the option of the config, or the file, that it is passed on in."""
    try:
        yield
    except UserError as error:
        error.args = (re.sub(rf"(?<![^( ]){re.escape(instead_of)}(?=[): ])", option, str(error)),)
        raise


@contextmanager
def about(what: str) -> Iterator[None]:
    """Begin messages with what they are about; nothing is added if that is empty."""
    try:
        yield
    except UserError as error:
        if what:
            error.args = (f"{what}: {error}",)
        raise


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean "x"?` for a valid name that this one abbreviates (`optim.lr`), or else the closest; or nothing."""
    if len(name) > LONG_WORD:  # the comparison would be slow, and nothing would be close
        return ""
    options = [x for x in valid if len(x) <= LONG_WORD]
    close = [x for x in options if _initials(x) == name] or difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def _initials(name: str) -> str:
    """`--optim.lr` for `--optim.learning_rate`; the empty string for a name of one word."""
    section, dot, words = name.rpartition(".")
    return section + dot + "".join(word[:1] for word in words.split("_")) if "_" in words else ""


def some(items: Sequence[str], most: int = 5) -> str:
    """The first few items, and how many more there are."""
    if not items:
        return "none"
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def json_fault(error: ValueError | RecursionError) -> str:
    """Why `json.loads` could not read a text, in one line."""
    if isinstance(error, RecursionError):
        return "brackets are nested too deep"
    return one_line(error).partition("; use sys.")[0]  # drops the advice to raise Python's limit on digits


def one_line(text: object) -> str:
    """Any message folded to a single line."""
    return " ".join(str(text).split())
