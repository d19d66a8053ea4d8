"""UDA's losses against their formulas in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from jaxft import losses
from jaxft.data.augmentation.pairs import LABELLED
from jaxft.step.consistency import Consistency, with_consistency
from jaxft.step.pairs import COUNTS
from jaxft.step.train_step import STEP

LABELS, STEPS = 3, 40
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (2, 6, LABELS)).astype(np.float32)
GOLD = RNG.integers(0, LABELS, (2, 6)).astype(np.int32)
LOGITS[0, 0, GOLD[0, 0]] += 6  # one label is known with certainty
# Two labelled examples, a pair, and another pair or nothing.
BATCH = {
    "labels": GOLD,
    "weights": np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], np.float32),
    LABELLED: np.array([[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]], np.float32),
    COUNTS: np.array([4, 3], np.float32),
}
PAIRS = [(0, 2), (0, 4), (1, 2)]


def divergence(original, augmented, temperature):
    p, q = log_softmax(original / temperature), log_softmax(augmented)
    return (np.exp(p) * (p - q)).sum()


def total(consistency, logits, step=0, micro=None):
    def loss_fn(params, batch, key, hyper):
        outputs = {"logits": logits}
        return task_loss(outputs, batch, True), outputs

    def task_loss(outputs, batch, train):
        return losses.cross_entropy(outputs["logits"], batch["labels"], batch["weights"])

    batch = {name: jnp.asarray(x if micro is None or name == COUNTS else x[micro : micro + 1]) for name, x in BATCH.items()}
    return with_consistency(loss_fn, task_loss, consistency)({}, batch, jax.random.key(0), {STEP: jnp.int32(step)})[0]


@pytest.mark.parametrize(("temperature", "confidence", "weight"), [(1.0, 0.0, 1.0), (0.4, 0.7, 0.5)])
def test_loss_is_the_sum_of_two_means(temperature, confidence, weight):
    consistency = Consistency(weight, temperature, confidence, "none", STEPS)
    value, count = total(consistency, jnp.asarray(LOGITS))
    gold = np.take_along_axis(log_softmax(LOGITS, -1), GOLD[..., None], -1)[:, :2]
    second = [
        divergence(LOGITS[r, s], LOGITS[r, s + 1], temperature)
        for r, s in PAIRS
        if softmax(LOGITS[r, s]).max() >= confidence
    ]
    assert not confidence or 0 < len(second) < len(PAIRS)
    np.testing.assert_allclose(float(value / count), -gold.mean() + weight * sum(second) / len(PAIRS), rtol=1e-6)


def test_micro_batches_add_up():
    whole = total(Consistency(0.7, 0.5, 0.0, "none", STEPS), jnp.asarray(LOGITS))
    parts = [total(Consistency(0.7, 0.5, 0.0, "none", STEPS, 2), jnp.asarray(LOGITS[i : i + 1]), micro=i) for i in (0, 1)]
    np.testing.assert_allclose(float(sum(x[0] for x in parts) / sum(x[1] for x in parts)), whole[0] / whole[1], rtol=1e-6)


@pytest.mark.parametrize(("annealing", "alpha"), [("linear", 0.25), ("exp", np.exp(-3.75)), ("log", 1 - np.exp(-1.25))])
def test_training_signal_annealing_leaves_out_what_is_known(annealing, alpha):
    threshold = alpha * (1 - 1 / LABELS) + 1 / LABELS
    value, count = total(Consistency(0.0, 1.0, 0.0, annealing, STEPS), jnp.asarray(LOGITS), step=10)
    costs = -np.take_along_axis(log_softmax(LOGITS, -1), GOLD[..., None], -1)[:, :2].ravel()
    used = costs[np.exp(-costs) <= threshold]
    assert 0 < len(used) < 4
    np.testing.assert_allclose(float(value / count), used.mean(), rtol=1e-6)


def test_the_consistency_loss_stays_where_annealing_leaves_every_label_out():
    sure = jnp.asarray(LOGITS).at[:, :2].set(50 * jax.nn.one_hot(GOLD[:, :2], LABELS))
    value, count = total(Consistency(1.0, 1.0, 0.0, "linear", STEPS), sure)
    expected = np.mean([divergence(LOGITS[r, s], LOGITS[r, s + 1], 1.0) for r, s in PAIRS])
    np.testing.assert_allclose(float(value / count), expected, rtol=1e-6)


def test_targets_have_no_gradient():
    gradient = jax.grad(lambda x: total(Consistency(1.0, 0.8, 0.0, "none", STEPS), x)[0])(jnp.asarray(LOGITS))
    assert not np.abs(gradient[:, 2::2]).any()
    assert (np.abs(gradient[:, 3]).max(-1) > 0).all()
