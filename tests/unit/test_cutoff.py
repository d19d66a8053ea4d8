"""Cut-off: what is cut, how much, and that it depends on the example and not on the layout."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.core.random_keys import root_key
from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.data.tokens.encode import Examples
from jaxft.step.cutoff import Cutoff, cut

SIZES = np.random.default_rng(0).integers(1, 30, 40)
EXAMPLES = Examples({"input_ids": np.arange(SIZES.sum(), dtype=np.int32)}, np.cumsum([0, *SIZES]), {})
WIDTH = 20


def cut_parts(
    cutoff: Cutoff, layout: str = "pack", micro_batches: int = 1, seed: int = 3, group: int = 1
) -> dict[int, np.ndarray]:
    """For each example, of `group` texts, which of its embeddings [T, D] are kept."""
    examples = replace(EXAMPLES, group=group)
    sampler = make_sampler(
        examples.lengths, batch_size=40, max_length=32 * group, layout=layout, seed=0, micro_batches=micro_batches
    )
    raw = {name: jnp.asarray(x) for name, x in sampler.epoch_batches(0).batch(examples, 0).items()}
    batch, found = cutoff.prepare(raw, root_key(seed)), {}
    for k in range(micro_batches):
        micro = {name: x[k] for name, x in batch.items()}
        kept = np.asarray(cut(jnp.ones((*micro["segment_ids"].shape, WIDTH)), micro, root_key(0)))
        for row, slot in zip(*np.nonzero(np.asarray(micro["weights"])), strict=True):
            number, begin = int(micro["example"][row, slot]), int(micro["first_token"][row, slot * group])
            found[number] = kept[row, begin : begin + examples.lengths[number]]
    return found


ALL = Cutoff(tokens=0.3, span=0.2, features=0.25, share=0.7, width=WIDTH)


@pytest.mark.parametrize(("layout", "micro_batches"), [("pad", 1), ("bucket", 2), ("pack", 2)])
def test_the_layout_does_not_change_what_is_cut(layout, micro_batches):
    expected, other = cut_parts(ALL), cut_parts(ALL, layout, micro_batches)
    assert len(expected) == len(SIZES) == len(other)
    for number, kept in expected.items():
        np.testing.assert_array_equal(kept, other[number])


def test_every_text_of_an_example_is_cut():
    """Wherever the layout puts it; four texts are an example."""
    expected, other = cut_parts(ALL, group=4), cut_parts(ALL, "pad", 2, group=4)
    assert len(expected) == 10
    for number, kept in expected.items():
        np.testing.assert_array_equal(kept, other[number])
    kept = cut_parts(Cutoff(span=0.5, width=WIDTH), group=4)
    edges = np.cumsum([0, *SIZES]).reshape(-1)
    for number, x in kept.items():
        for text in range(4 * number, 4 * number + 4):
            begin = edges[text] - edges[4 * number]
            gone = (x[begin : begin + SIZES[text]].sum(1) == 0).sum()
            assert gone == min(max(1, int(0.5 * SIZES[text])), SIZES[text] - 1)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3, 0.95])
def test_shares_of_tokens_and_spans(rate):
    for cutoff, span in ((Cutoff(tokens=rate, width=WIDTH), False), (Cutoff(span=rate, width=WIDTH), True)):
        for number, kept in cut_parts(cutoff).items():
            gone = np.flatnonzero(kept.sum(1) == 0)
            size = int(SIZES[number])
            assert len(gone) == min(max(1, int(rate * size + 1e-6)), size - 1)
            assert 0 not in gone
            assert not span or len(gone) < 2 or (np.diff(gone) == 1).all()


def test_features_are_cut_in_all_tokens_of_an_example():
    kept = cut_parts(Cutoff(features=0.25, width=WIDTH))
    for x in kept.values():
        assert (x == x[:1]).all()
        assert (x[0] == 0).sum() == 5
    assert len({x[0].tobytes() for x in kept.values()}) > 30


def test_spans_are_anywhere_and_some_examples_stay_whole():
    begins, whole = set(), 0
    for seed in range(60):
        kept = cut_parts(Cutoff(span=0.2, share=0.6, width=WIDTH), seed=seed)
        longest = int(np.argmax(SIZES))
        gone = np.flatnonzero(kept[longest].sum(1) == 0)
        whole += not len(gone)
        begins |= {int(gone[0])} if len(gone) else set()
    size = int(SIZES.max())
    assert min(begins) <= 3
    assert max(begins) >= size - int(0.2 * size) - 3
    assert 10 <= whole <= 38


def test_steps_differ():
    assert any((cut_parts(ALL, seed=1)[n] != kept).any() for n, kept in cut_parts(ALL, seed=2).items())
