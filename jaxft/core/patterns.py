"""Regular expressions from users and files, matched in bounded time."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence

from jaxft.core.errors import UserError

LONGEST = 20_000  # characters
SECONDS = 5.0  # time limit for all patterns that may be slow together
QUICK = 4  # repetitions that a pattern may have without a time limit, if none is nested in another
_RISKY = re.compile(r"\)[*+{]|\\[1-9]|\(\?P=")  # repeated groups, and references to groups
_ANY_CASE = re.compile(r"\(\?[aLmsux]*i")  # ignoring case makes large character classes slow to compile
# A match cannot be interrupted within a process, so patterns that may never end are matched in a subprocess.
_PROGRAM = """
import json, re, sys
patterns, names, full = json.load(sys.stdin)
matched = [[bool((x.fullmatch if full else x.search)(name)) for name in names] for x in map(re.compile, patterns)]
json.dump(matched, sys.stdout)
"""


def check(pattern: str, what: str = "rule") -> None:
    """Raise a UserError, which calls the pattern by `what`, unless it is a regular expression."""
    if len(pattern) > LONGEST:
        raise UserError(f'{what} "{pattern[:60]}..." has {len(pattern):,} characters: at most {LONGEST:,} are read')
    if _ANY_CASE.search(pattern):
        _match_in_subprocess([pattern], [], what, full=False)
        return
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        why = "its brackets are nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f'{what} "{pattern}" is not a regular expression: {why}') from error


def match(pattern: str, names: Sequence[str], what: str = "rule", *, full: bool = False) -> list[bool]:
    """For each name, whether the pattern occurs in it, or, with `full`, matches all of it (see `match_each`)."""
    return match_each([pattern], names, what, full=full)[0]


def match_each(patterns: Sequence[str], names: Iterable[str], what: str = "rule", *, full: bool = False) -> list[list[bool]]:
    """For every pattern, which of the names it matches: one list per pattern, with one value per name.

    Messages call a pattern by `what`; `full` uses `re.fullmatch` instead of `re.search`.

    Raises:
      UserError: for a malformed pattern, or patterns whose matching takes longer than SECONDS.
    """
    names, matched = list(names), {}
    for pattern in dict.fromkeys(patterns):
        check(pattern, what)
        if _is_quick(pattern):
            compiled = re.compile(pattern)
            matched[pattern] = [bool((compiled.fullmatch if full else compiled.search)(name)) for name in names]
    if slow := [pattern for pattern in dict.fromkeys(patterns) if pattern not in matched]:
        matched |= dict(zip(slow, _match_in_subprocess(slow, names, what, full=full), strict=True))
    return [matched[pattern] for pattern in patterns]


def _is_quick(pattern: str) -> bool:
    """Whether matching takes at most a small power of a name's length: few repetitions, and no repeated group."""
    repeated = len(re.findall(r"[*+{]|(?<!\()\?", pattern))
    return repeated <= QUICK and not (_RISKY.search(pattern) or _ANY_CASE.search(pattern))


def _match_in_subprocess(patterns: Sequence[str], names: Sequence[str], what: str, *, full: bool) -> list[list[bool]]:
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            input=json.dumps([patterns, names, full]),
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
