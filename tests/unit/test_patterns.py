"""Regular expressions from users and files: matches are those of `re`, in bounded time."""

import re
import time

import pytest

from jaxft.core import patterns
from jaxft.core.errors import UserError

NAMES = [f"encoder.layer.{i}.attention.self.{part}.kernel" for i in range(12) for part in ("query", "key", "value")]
GOOD = [
    "",
    r"\.query\.",
    r"^encoder\.layer\.(0|11)\.",
    r".*layer\.\d+\.attention\.self\.(query|value)\.kernel",
    r"(?!.*key).*layer\.[2-4]\..*",
    r"(?i)QUERY",
    r"(\w+\.)*kernel$",
    r"(e).*\1",
]
ENDLESS = [r"(\w+\.?)+!", r"((\w|\.)+)+!", r".*.*.*.*.*.*.*.*.*!", r"(?i)" + r"[\x00-\U0010ffff]" * 1000]


@pytest.mark.parametrize("whole", [False, True])
def test_matches_are_those_of_re(whole):
    found = patterns.match_each(GOOD, NAMES, full=whole)
    for pattern, fits in zip(GOOD, found, strict=True):
        match = re.compile(pattern).fullmatch if whole else re.compile(pattern).search
        assert fits == [match(name) is not None for name in NAMES], pattern
        assert patterns.match(pattern, NAMES, full=whole) == fits


@pytest.mark.parametrize("pattern", ENDLESS, ids=range(len(ENDLESS)))
def test_a_pattern_that_takes_too_long_is_an_error(pattern, monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 0.5)
    start = time.perf_counter()
    with pytest.raises(UserError, match=r'^rule ".*takes more than 0\.5 seconds to match'):
        patterns.match(pattern, NAMES)
    assert time.perf_counter() - start < 60  # it would take hours


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "is not a regular expression: missing )"),
        ("(?i)(", "is not a regular expression: missing )"),
        ("(" * 9000, "is not a regular expression: its brackets are nested too deep"),
        ("a{99999999999}", "is not a regular expression: the repetition number is too large"),
        ("x" * 100_000, "has 100,000 characters: at most 20,000"),
    ],
)
def test_a_bad_pattern_is_refused(pattern, words):
    for run in (lambda: patterns.check(pattern, "rule"), lambda: patterns.match(pattern, NAMES)):
        with pytest.raises(UserError) as error:
            run()
        assert words in str(error.value)
