"""The importance of source texts for a target domain: the ratio of two densities, estimated by a classifier."""

import numpy as np
import pytest

from jaxft.core.errors import UserError
from jaxft.data.quality.importance import importance, words_of


def test_the_ratio_of_two_normal_densities():
    """Of means 0 and 1 and variance 1 it is exp(x - 1/2), to a factor that the mean of 1 decides."""
    rng = np.random.default_rng(0)
    source, target = rng.normal(0, 1, (4000, 1)), rng.normal(1, 1, (1000, 1))
    found = importance(source, target, clip=1e6, seed=0)
    assert found.weights.mean() == pytest.approx(1)
    slope, _ = np.polyfit(source[:, 0], np.log(found.weights), 1)
    assert slope == pytest.approx(1, abs=0.1)
    assert found.auc == pytest.approx(0.76, abs=0.02)  # Phi(1 / sqrt 2)
    assert found.effective == pytest.approx(4000 / np.e, rel=0.15)
    # The mean of x under the weights is that of the target.
    assert (found.weights @ source[:, 0]) / len(source) == pytest.approx(target.mean(), abs=0.1)


def test_ratios_are_clipped_before_their_mean_is_1():
    rng = np.random.default_rng(1)
    source, target = rng.normal(0, 1, (300, 2)), rng.normal(2, 1, (300, 2))
    found, free = (importance(source, target, clip=clip, seed=0) for clip in (1.5, 1e6))
    raw = found.weights / found.weights.max() * 1.5
    low = raw < 1.4999
    assert 0 < low.sum() < len(low)
    ratio = free.weights[low] / raw[low]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
    assert found.weights.mean() == pytest.approx(1)
    assert found.effective > free.effective


def test_like_domains_have_like_weights():
    rng = np.random.default_rng(2)
    found = importance(rng.normal(size=(400, 3)), rng.normal(size=(400, 3)), clip=10, seed=0)
    assert found.auc == pytest.approx(0.5, abs=0.06)
    assert found.weights.std() < 0.2


def test_words_are_those_of_both_domains():
    source, target = words_of(["a river", "the old river!"], ["the sun", "A bridge"])
    assert source.shape == target.shape == (2, 7)
    assert source[0].nnz == 2


@pytest.mark.parametrize("sizes", [(4, 10), (10, 4)])
def test_few_texts_are_refused(sizes):
    with pytest.raises(UserError, match="give at least 5 of each"):
        importance(*(np.zeros((n, 1)) for n in sizes), clip=10, seed=0)
