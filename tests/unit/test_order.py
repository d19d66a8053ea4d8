"""The order of examples: a permutation with even steps, in which chance decides which examples share a step."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxft.data.batching.batch_sampler import epoch_order

LENGTHS = np.clip(np.random.default_rng(0).lognormal(3.6, 0.7, 4003), 6, 128).astype(np.int64)


def tokens(batch_size: int, epoch: int = 0) -> np.ndarray:
    order = epoch_order(LENGTHS, batch_size, 5, epoch)
    whole = order[: len(order) // batch_size * batch_size].reshape(-1, batch_size)
    return LENGTHS[whole].sum(1)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 12), st.integers(0, 3))
def test_every_example_occurs_once(lengths, batch_size, epoch):
    found = epoch_order(np.array(lengths), batch_size, 1, epoch)
    assert sorted(found.tolist()) == list(range(len(lengths)))
    assert found.tolist() == epoch_order(np.array(lengths), batch_size, 1, epoch).tolist()


def test_steps_have_about_the_same_number_of_tokens():
    for batch_size in (8, 32, 128):
        found = tokens(batch_size)
        assert found.std() < 0.01 * found.mean()
        plain = np.random.default_rng(0).permutation(LENGTHS)[: found.size * batch_size].reshape(-1, batch_size).sum(1)
        assert plain.std() > 0.05 * found.mean()


def test_examples_share_a_step_by_chance():
    """Two examples that share a step meet again in another epoch as often as any two do; the longest, which are in few
    strata, less than three times as often."""
    batch_size, epochs = 16, 8
    steps = len(LENGTHS) // batch_size
    step_of = np.full((epochs, len(LENGTHS)), -1)
    for epoch in range(epochs):
        whole = epoch_order(LENGTHS, batch_size, 5, epoch)[: steps * batch_size]
        step_of[epoch, whole] = np.arange(len(whole)) // batch_size
    longest = np.argsort(-LENGTHS)[:500]
    for among, most in ((np.arange(len(LENGTHS)), 1.3), (longest, 3)):
        again = pairs = 0
        for epoch in range(1, epochs):
            first, then = step_of[0, among], step_of[epoch, among]
            shared = (first[:, None] == first) & (first >= 0)
            again += (shared & (then[:, None] == then)).sum() - len(among)
            pairs += shared.sum() - len(among)
        assert pairs > 1000
        assert 0.5 < again / pairs * steps < most


def test_steps_are_shuffled():
    """The step with the longest example is not always the first."""
    firsts = {int(np.flatnonzero(epoch_order(LENGTHS, 32, 5, e) == LENGTHS.argmax())[0]) // 32 for e in range(10)}
    assert len(firsts) > 5


def test_without_a_seed_the_longest_come_first():
    assert LENGTHS[epoch_order(LENGTHS, 32, None, 0)].tolist() == sorted(LENGTHS.tolist(), reverse=True)
