"""Which training rows `data.clean` leaves out, and why."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxft.config.clean import CleanConfig
from jaxft.core.progress import in_steps
from jaxft.data.quality.measures import known_shares, script_share, word_count
from jaxft.data.quality.repeats import Search
from jaxft.data.quality.row_texts import RowTexts

MOSTLY = 0.5  # share of letters


def dropped(config: CleanConfig, search: Search, split: str) -> dict[str, np.ndarray]:
    """The rows to leave out, bool [rows], by the reason as a note calls it; a row has every reason that holds.

    Args:
      config: what to leave out. `min_known` needs a tokenizer: see `unknown`.
      search: of the repeats in all splits.
      split: the name of the training split.
    """
    found: dict[str, np.ndarray] = {}
    texts = search.splits[split].texts
    count = len(texts)

    def mark(reason: str, rows: Iterable[int]) -> None:
        found[reason] = np.zeros(count, bool)
        found[reason][list(rows)] = True

    if config.leaks == "drop":
        for other in search.splits:
            if other != split:
                exact = {x.row for x in search.leaks(split, other, near=False)}
                mark(f"also in the {other} data", exact)
                mark(f"nearly in the {other} data", {x.row for x in search.leaks(split, other)} - exact)
    if config.conflicts == "drop":
        mark("with several labels", (row for rows in search.conflicts(split) for row in rows))
    if config.duplicates != "keep":
        exact = {x.row for x in search.duplicates(split)}
        mark("duplicates", exact)
        if config.duplicates == "near":
            mark("near duplicates", {x.row for x in search.near(split)[0]} - exact)
    if config.min_words or config.max_words:
        words = word_counts(texts)
        if config.min_words:
            found[f"with fewer than {config.min_words} words"] = words < config.min_words
        if config.max_words:
            found[f"with more than {config.max_words} words"] = words > config.max_words
    if config.scripts:
        shares = np.fromiter((script_share(text, config.scripts) for text in texts), float, count)
        found[f"mostly not {' or '.join(config.scripts)}"] = shares < MOSTLY
    return found


def unknown(config: CleanConfig, texts: RowTexts, tokenizer: Any) -> dict[str, np.ndarray]:
    """The rows with too small a share of known tokens, as in `dropped`."""
    if config.min_known is None:
        return {}
    return {f"with less than {config.min_known:g} of the tokens known": known_shares(texts, tokenizer) < config.min_known}


def word_counts(texts: RowTexts) -> np.ndarray:
    """The number of words of each text, int64 [N]."""
    counts = np.zeros(len(texts), np.int64)
    steps = in_steps("counting words", len(texts), 1)
    for row, text in zip(steps, texts, strict=True):
        counts[row] = word_count(text)
    return counts


def counts_by_reason(found: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, int]]:
    """(which rows to leave out, the number of rows by the first reason that holds for each)."""
    left_out = np.zeros(len(next(iter(found.values()))), bool)
    counts = {}
    for reason, mask in found.items():
        if number := int((mask & ~left_out).sum()):
            counts[reason] = number
        left_out = left_out | mask
    return left_out, counts


def counted(count: int, reason: str) -> str:
    """A number of rows and the reason why they are left out."""
    return f"{count:,} {reason.removesuffix('s') if count == 1 and reason.endswith('duplicates') else reason}"


def left_out_lines(found: Mapping[str, np.ndarray]) -> list[str]:
    """A line for each reason with the number of its rows, each row in the line of the first reason that holds for it."""
    counts, lines = counts_by_reason(found)[1] if found else {}, []
    for reason, mask in found.items():
        count = counts.get(reason, 0)
        above = int(mask.sum()) - count
        more = f" ({above:,} more {'is' if above == 1 else 'are'} counted above)" if above else ""
        lines += [f"left out: {counted(count, reason)}{more}"] if count or above else []
    return lines
