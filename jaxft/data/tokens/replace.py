"""Puts other examples in the place of some."""

from dataclasses import replace

import numpy as np

from jaxft.core.ragged import offsets_of, places_in_rows
from jaxft.data.tokens.encode import Examples


def replace_examples(examples: Examples, where: np.ndarray, others: Examples) -> Examples:
    """The examples with `others` at the indices `where`, int64 [len(others)]; lengths may differ, columns may not."""
    group = examples.group
    sequences = (np.asarray(where)[:, None] * group + np.arange(group)).ravel()
    count = len(examples.offsets) - 1
    lengths, starts = np.diff(examples.offsets), np.asarray(examples.offsets[:-1], np.int64).copy()
    lengths[sequences] = np.diff(others.offsets)
    starts[sequences] = others.offsets[:-1]
    is_other = np.zeros(count, bool)
    is_other[sequences] = True
    offsets = offsets_of(lengths)
    source, from_others = np.repeat(starts, lengths) + places_in_rows(lengths), np.repeat(is_other, lengths)
    tokens = {}
    for name, column in examples.tokens.items():
        new = np.empty((len(source), *column.shape[1:]), column.dtype)
        new[from_others] = others.tokens[name][source[from_others]]
        new[~from_others] = column[source[~from_others]]
        tokens[name] = new
    columns = {}
    for name, column in examples.columns.items():
        columns[name] = np.array(column)
        columns[name][where] = others.columns[name]
    return replace(examples, tokens=tokens, offsets=offsets, columns=columns)


def with_missing_columns(others: Examples, examples: Examples, where: np.ndarray) -> Examples:
    """`others`, which are to be put at the indices `where`, with the columns of these examples that they lack.

    Of a token column, all tokens have the value of the example's first one.
    """
    columns = {name: x[where] for name, x in examples.columns.items() if name not in others.columns}
    starts = examples.starts[where]
    tokens = {
        name: np.repeat(x[starts], others.lengths, axis=0)
        for name, x in examples.tokens.items()
        if name not in others.tokens
    }
    return others.with_columns(**columns).with_tokens(**tokens)


def select_examples(examples: Examples, chosen: np.ndarray) -> Examples:
    """The examples with the indices `chosen`, int64 [N]."""
    group = examples.group
    sequences = (np.asarray(chosen)[:, None] * group + np.arange(group)).ravel()
    lengths = np.diff(examples.offsets)[sequences]
    source = np.repeat(np.asarray(examples.offsets)[sequences], lengths) + places_in_rows(lengths)
    tokens = {name: np.asarray(x)[source] for name, x in examples.tokens.items()}
    columns = {name: np.asarray(x)[chosen] for name, x in examples.columns.items()}
    return replace(examples, tokens=tokens, offsets=offsets_of(lengths), columns=columns)


def select_range(examples: Examples, begin: int, end: int) -> Examples:
    """The examples from `begin` to `end` (exclusive), as views."""
    offsets = np.asarray(examples.offsets[begin * examples.group : end * examples.group + 1])
    tokens = {name: x[int(offsets[0]) : int(offsets[-1])] for name, x in examples.tokens.items()}
    columns = {name: x[begin:end] for name, x in examples.columns.items()}
    return replace(examples, tokens=tokens, offsets=offsets - offsets[0], columns=columns)


def join_examples(parts: list[Examples]) -> Examples:
    """All examples of the parts, in their order."""
    first = parts[0]
    lengths = np.concatenate([np.diff(x.offsets) for x in parts])
    tokens = {name: np.concatenate([x.tokens[name] for x in parts]) for name in first.tokens}
    columns = {name: np.concatenate([x.columns[name] for x in parts]) for name in first.columns}
    return replace(first, tokens=tokens, offsets=offsets_of(lengths), columns=columns)
