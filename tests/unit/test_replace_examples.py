"""Examples in the place of others, with other lengths."""

import numpy as np
import pytest

from jaxft.core.ragged import offsets_of
from jaxft.data.tokens.encode import Examples
from jaxft.data.tokens.replace import join_examples, replace_examples, select_examples, select_range


def make(lengths: list[int], first: int, group: int) -> Examples:
    """Examples whose tokens are numbered from `first` on."""
    count = sum(lengths)
    ids = np.arange(first, first + count, dtype=np.int32)
    labels = np.arange(first, first + len(lengths) // group)
    return Examples({"input_ids": ids, "more": np.stack([ids, ids], 1)}, offsets_of(lengths), {"labels": labels}, group)


def listed(examples: Examples) -> list[tuple[list[list[int]], int]]:
    """(the tokens of each sequence, the label) of each example."""
    assert (examples.tokens["more"] == examples.tokens["input_ids"][:, None]).all()
    parts = [x.tolist() for x in np.split(examples.tokens["input_ids"], examples.offsets[1:-1])]
    group = examples.group
    return [(parts[i * group : (i + 1) * group], int(x)) for i, x in enumerate(examples.columns["labels"])]


@pytest.mark.parametrize("group", [1, 2])
def test_examples_are_replaced_selected_and_joined(group):
    given, others = make([3, 1, 2, 5, 4, 1, 2, 2], 0, group), make([2, 6, 1, 1], 100, group)
    where = [6, 1, 3, 0] if group == 1 else [3, 1]
    expected = listed(given)
    for place, other in zip(where, listed(others), strict=True):
        expected[place] = other
    replaced = replace_examples(given, np.array(where), others)
    assert listed(replaced) == expected
    assert listed(select_examples(replaced, np.array([2, 0]))) == [expected[2], expected[0]]
    assert listed(select_range(replaced, 1, 3)) == expected[1:3]
    assert listed(join_examples([select_range(replaced, 0, 2), select_range(replaced, 2, len(replaced))])) == expected
    assert listed(replace_examples(given, np.zeros(0, np.int64), select_range(others, 0, 0))) == listed(given)
