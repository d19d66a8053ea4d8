"""Masking on the device: how many tokens, which ones, what replaces them; and the layout has no influence."""

import jax
import numpy as np
import pytest

from jaxft.core import random_keys
from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.data.tokens.encode import Examples
from jaxft.tasks.masking import Masking

VOCABULARY, MASK, SPECIAL = 50, 4, (0, 1, 2, 3, 4, 17)
LENGTHS = np.random.default_rng(3).integers(3, 40, 60)
DRAWS = 40


def corpus(words: bool) -> Examples:
    """Examples with a special token at each end; words have one to four pieces."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], LENGTHS)
    real = (inside > 0) & (inside < np.repeat(LENGTHS, LENGTHS) - 1)
    ordinary = np.setdiff1d(np.arange(VOCABULARY), SPECIAL)
    ids = np.where(real, rng.choice(ordinary, len(inside)), 2).astype(np.int32)
    first = ~real | (inside == 1) | (rng.random(len(inside)) < (0.4 if words else 2))
    place = np.maximum.accumulate(np.where(first, np.arange(len(inside)), 0)) - np.repeat(offsets[:-1], LENGTHS)
    tokens = {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "words": np.where(real, place + 1, 0).astype(np.int32)}
    return Examples(tokens, offsets, {})


def masked(data: Examples, rate: float, layout: str, micro_batches: int = 1, draws: int = DRAWS):
    """Whether each token of the corpus was chosen, and its input id: two arrays [draws, total tokens]."""
    masking = Masking(rate, MASK, VOCABULARY, SPECIAL)
    sampler = make_sampler(
        data.lengths, batch_size=len(data), max_length=48, layout=layout, seed=0, micro_batches=micro_batches
    )
    plan = sampler.epoch_batches(0)
    batch = plan.batch(data, 0)
    index, (part, row, offset, _) = plan.cells(0)
    target = [np.arange(data.starts[i], data.starts[i] + data.lengths[i]) for i in index]
    source = [(k, r, slice(o, o + data.lengths[i])) for i, k, r, o in zip(index, part, row, offset, strict=True)]
    step = jax.jit(masking)
    found = []
    for draw in range(draws):
        out = {name: np.asarray(x) for name, x in step(batch, jax.random.fold_in(random_keys.root_key(0), draw)).items()}
        positions, used = out["token_positions"], out["token_weights"] > 0
        chosen, ids = np.zeros(batch["input_ids"].shape, bool), np.zeros(data.offsets[-1], np.int32)
        k, r, p = np.nonzero(used)
        chosen[k, r, positions[k, r, p]] = True
        assert chosen.sum() == used.sum()
        np.testing.assert_array_equal(out["targets"][used], batch["input_ids"][k, r, positions[k, r, p]])
        np.testing.assert_array_equal(out["input_ids"][~chosen], batch["input_ids"][~chosen])
        flat = np.zeros(data.offsets[-1], bool)
        for t, s in zip(target, source, strict=True):
            flat[t], ids[t] = chosen[s], out["input_ids"][s]
        assert flat.sum() == used.sum()
        found.append((flat, ids))
    shape = sampler.shapes[0]
    assert positions.shape[-1] == masking.max_predictions(shape.length, shape.slots)
    return [np.stack(x) for x in zip(*found, strict=True)]


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_each_example_has_its_share_of_masked_tokens(rate):
    """With words of one piece: the share, rounded up or down and right on average; all positions are equally likely."""
    data = corpus(words=False)
    chosen, ids = masked(data, rate, "pack", draws=200)
    real = data.tokens["words"] > 0
    assert not chosen[:, ~real].any()
    counts = np.add.reduceat(chosen, data.starts, axis=1)
    share = rate * (LENGTHS - 2)
    assert (np.abs(counts - share) < 1 + 1e-3).all()
    assert np.abs(counts.mean(0) - share).max() < 4 * 0.5 / np.sqrt(len(counts))
    each = chosen[:, real].mean(0)
    assert np.abs(each - rate).max() < 5 * np.sqrt(rate * (1 - rate) / len(chosen))
    assert len(np.unique(chosen, axis=0)) == len(chosen)  # another key chooses other positions
    was = np.broadcast_to(data.tokens["input_ids"], ids.shape)[chosen]
    became = ids[chosen]
    n = len(was)
    close = 5 * np.sqrt(0.25 / n)
    assert abs((became == MASK).mean() - 0.8) < close
    other = (became != MASK) & (became != was)
    assert abs(other.mean() - 0.1 * (1 - 1 / 44)) < close
    assert not np.isin(became[other], SPECIAL).any()
    assert set(np.unique(became[other])) == set(range(VOCABULARY)) - set(SPECIAL)


def test_pieces_of_a_word_are_masked_together():
    data = corpus(words=True)
    chosen, ids = masked(data, 0.3, "pack")
    word = data.tokens["words"] + 100 * np.repeat(np.arange(len(data)), LENGTHS)
    real = data.tokens["words"] > 0
    _, number, pieces = np.unique(word[real], return_inverse=True, return_counts=True)
    assert set(pieces) >= {1, 2, 3}
    hits = np.stack([np.bincount(number, row) for row in chosen[:, real]])
    assert np.isin(hits, [0]).any()
    assert ((hits == 0) | (hits == pieces)).all()
    assert not chosen[:, ~real].any()
    counts = np.add.reduceat(chosen, data.starts, axis=1)
    assert (counts < 0.3 * (LENGTHS - 2) + 1).all()  # a word that would go past the share is left out
    assert 0.22 < chosen[:, real].mean() < 0.3
    # the replacement is drawn for each piece
    pair = np.flatnonzero((np.diff(word) == 0) & real[1:])
    both = chosen[:, pair]
    assert (both & ((ids[:, pair] == MASK) != (ids[:, pair + 1] == MASK))).any()


@pytest.mark.parametrize("words", [False, True])
def test_masks_do_not_depend_on_the_layout(words):
    data = corpus(words)
    right = masked(data, 0.25, "pad", draws=3)
    for layout, parts in (("pack", 3), ("bucket", 1)):
        for ours, theirs in zip(masked(data, 0.25, layout, parts, draws=3), right, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_max_predictions_holds_every_draw_and_little_more():
    masking = Masking(0.15, MASK, VOCABULARY)
    assert masking.max_predictions(128, 1) == 20
    assert masking.max_predictions(512, 4) == 80
    assert masking.max_predictions(3, 2) == 2
    assert Masking(0.999, MASK, VOCABULARY).max_predictions(8, 4) == 8
