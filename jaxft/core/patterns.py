"""Regular expressions that users and files bring: matched in bounded time, whatever they are."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence

from jaxft.core.errors import UserError

LONGEST = 20_000  # characters
SECONDS = 5.0  # for the patterns that may take long, all together
QUICK = 4  # repetitions in a pattern that needs no guard, if none stands in another
_RISKY = re.compile(r"\)[*+{]|\\[1-9]|\(\?P=")  # groups that are repeated, and references to them
_ANY_CASE = re.compile(r"\(\?[aLmsux]*i")  # with it, large classes take long to compile
# Matching cannot be broken off where it runs, so what may never end runs in a process of its own.
_PROGRAM = """
import json, re, sys
patterns, names, whole = json.load(sys.stdin)
found = [[bool((x.fullmatch if whole else x.search)(name)) for name in names] for x in map(re.compile, patterns)]
json.dump(found, sys.stdout)
"""


def check(pattern: str, what: str = "rule") -> None:
    """Refuse what is no regular expression.

    Args:
      pattern: the expression.
      what: has it, for messages.

    Raises:
      UserError: saying what is wrong with it.
    """
    if len(pattern) > LONGEST:
        raise UserError(f'{what} "{pattern[:60]}..." has {len(pattern):,} characters: at most {LONGEST:,} are read')
    if _ANY_CASE.search(pattern):
        _guarded([pattern], [], what, whole=False)
        return
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        why = "its brackets are nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f'{what} "{pattern}" is not a regular expression: {why}') from error


def matches(pattern: str, names: Sequence[str], what: str = "rule", *, whole: bool = False) -> list[bool]:
    """Which names a pattern is found in, or, with `whole`, which it matches from end to end (see `each`)."""
    return each([pattern], names, what, whole=whole)[0]


def each(patterns: Sequence[str], names: Iterable[str], what: str = "rule", *, whole: bool = False) -> list[list[bool]]:
    """For every pattern, which of the names it is found in.

    Args:
      patterns: as `re` reads them.
      names: of parameters or modules.
      what: has the patterns, for messages.
      whole: whether they are to match from end to end.

    Raises:
      UserError: for a pattern that is none, or those whose matching does not end within SECONDS.
    """
    names, found = list(names), {}
    for pattern in dict.fromkeys(patterns):
        check(pattern, what)
        if _is_quick(pattern):
            own = re.compile(pattern)
            found[pattern] = [bool((own.fullmatch if whole else own.search)(name)) for name in names]
    if slow := [pattern for pattern in dict.fromkeys(patterns) if pattern not in found]:
        found |= dict(zip(slow, _guarded(slow, names, what, whole=whole), strict=True))
    return [found[pattern] for pattern in patterns]


def _is_quick(pattern: str) -> bool:
    """Whether the time is bounded by a small power of a name's length: few repetitions, none of a group."""
    repeated = len(re.findall(r"[*+{]|(?<!\()\?", pattern))
    return repeated <= QUICK and not (_RISKY.search(pattern) or _ANY_CASE.search(pattern))


def _guarded(patterns: Sequence[str], names: Sequence[str], what: str, *, whole: bool) -> list[list[bool]]:
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            input=json.dumps([patterns, names, whole]),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f'{what} "{patterns[0]}" takes more than {SECONDS:g} seconds to match: avoid repetitions inside repetitions, '
            "such as (a+)+"
        ) from None
    except subprocess.CalledProcessError as error:
        why = (error.stderr.strip().splitlines() or ["it has crashed"])[-1]
        raise UserError(f'{what} "{patterns[0]}" is not a regular expression: {why.removeprefix("re.error: ")}') from error
    return json.loads(done.stdout)
