"""`collect` restores the order of examples; an example may consist of several sequences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.data.batching.collect import Summary, collect
from jaxft.data.tokens.encode import Examples


def make_examples(lengths: list[int], group: int) -> Examples:
    """Tokens number themselves; sequences are of the given lengths."""
    total = sum(lengths)
    tokens = {"input_ids": np.arange(1, total + 1, dtype=np.int32)}
    columns = {"labels": np.arange(len(lengths) // group, dtype=np.int32) * 3}
    return Examples(tokens, np.concatenate([[0], np.cumsum(lengths)]), columns, group)


def make_batches(examples: Examples, layout: str, batch_size: int, seed: int | None = None):
    longest = int(examples.lengths.max())
    return make_sampler(
        examples.lengths, batch_size=batch_size, max_length=longest, layout=layout, seed=seed, shards=2
    ).epoch_batches(0)


@pytest.mark.parametrize("layout", ["pack", "bucket", "pad"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_collect_restores_the_order_of_examples(layout, data):
    group = data.draw(st.sampled_from([1, 3]))
    count = data.draw(st.integers(1, 20)) * group
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
    examples = make_examples(lengths, group)
    batches = make_batches(examples, layout, data.draw(st.integers(1, 8)), seed=data.draw(st.sampled_from([None, 5])))

    def steps():
        for step in range(batches.sampler.steps_per_epoch):
            batch = {name: x[0] for name, x in batches.batch(examples, step).items()}
            slots = batch["labels"]
            yield Summary(
                examples={"labels": slots, "pair": np.stack([slots, slots + 1], -1)},
                sums={"count": batch["weights"].sum()},
                tokens={"ids": batch["input_ids"]},
            )

    found = collect(batches, examples, steps())
    assert found.sums["count"] == len(examples)
    assert found.examples["labels"].tolist() == examples.columns["labels"].tolist()
    assert found.examples["pair"].tolist() == [[x, x + 1] for x in examples.columns["labels"]]
    assert found.tokens["ids"].tolist() == examples.tokens["input_ids"].tolist()


@pytest.mark.parametrize("layout", ["pack", "bucket"])
def test_sequences_of_an_example_share_a_row(layout):
    """Each sequence has its own segment, its own positions and its own first token; slots are counted by example."""
    lengths = [2, 3, 1, 4, 2, 2, 1, 1, 5]
    examples = make_examples(lengths, group=3)
    assert len(examples) == 3
    assert examples.lengths.tolist() == [6, 8, 7]
    batches = make_batches(examples, layout, 3)
    batch = {name: x[0] for name, x in batches.batch(examples, 0).items()}
    assert batch["first_token"].shape == (batch["example"].shape[0], batch["example"].shape[1] * 3)
    seen = 0
    for row, slot in zip(*np.nonzero(batch["example"] >= 0), strict=True):
        example = batch["example"][row, slot]
        for choice in range(3):
            sequence = example * 3 + choice
            here = np.flatnonzero(batch["segment_ids"][row] == slot * 3 + choice + 1)
            start, length = examples.offsets[sequence], lengths[sequence]
            assert here.tolist() == list(range(here[0], here[0] + length))
            assert batch["first_token"][row, slot * 3 + choice] == here[0]
            assert batch["position_ids"][row, here].tolist() == list(range(length))
            assert batch["input_ids"][row, here].tolist() == list(range(start + 1, start + length + 1))
            seen += 1
    assert seen == 9
    assert (batch["segment_ids"] > 0).sum() == sum(lengths)
