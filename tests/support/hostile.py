"""Hostile values, and an assertion that what reads them refuses them in one short line within seconds."""

import time
from collections.abc import Callable

import pytest

from jaxft.core.errors import LONG_TEXT, UserError

DIGITS, NEST, NAME = "9" * 5000, "[" * 100_000, "x" * 10_000


def refused(run: Callable[[], object], *words: str) -> str:
    """`run` raises a `UserError` of one line with all the words, in little processor time; returns the line."""
    start = time.process_time()
    with pytest.raises(UserError) as error:
        run()
    assert time.process_time() - start < 4
    text = str(error.value)
    assert len(text) <= LONG_TEXT + 10
    assert "\n" not in text
    for word in words:
        assert word in text, text
    return text
