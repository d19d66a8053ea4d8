"""The mean of several teachers: what it does to the loss, by comparing with the losses against each of them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.losses import LOWEST, OutputPair, soft
from jaxft.losses.teachers import mean_teacher

RNG = np.random.default_rng(0)
STUDENT, *TEACHERS = RNG.normal(0, 3, (4, 2, 5, 6)).astype(np.float32)
SLOTS = (RNG.random((2, 5)) < 0.7).astype(np.float32)
WEIGHTS = np.array([0.5, 0.3, 0.2], np.float32)
T = 2.5


def pairs(activation: str) -> list[OutputPair]:
    return [OutputPair(activation, jnp.asarray(STUDENT), jnp.asarray(x), jnp.asarray(SLOTS)) for x in TEACHERS]


def loss_and_gradient(name: str, pair: OutputPair) -> tuple[float, np.ndarray]:
    def total(student):
        return soft.LOSSES[name](replace(pair, student=student), T)[0]

    value, gradient = jax.value_and_grad(total)(pair.student)
    return float(value), np.asarray(gradient)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "identity"])
@pytest.mark.parametrize("name", ["cross_entropy", "kl", "mse"])
def test_the_gradient_against_the_mean_is_the_mean_of_the_gradients(activation, name):
    """And so is the value of the cross-entropy; of the others it differs by a constant."""
    found = loss_and_gradient(name, mean_teacher(pairs(activation), jnp.asarray(WEIGHTS), T, of_logits=name == "mse"))
    each = [loss_and_gradient(name, pair) for pair in pairs(activation)]
    right = sum(w * gradient for w, (_, gradient) in zip(WEIGHTS, each, strict=True))
    assert np.abs(found[1] - right).max() <= 1e-5 * np.abs(right).max()
    if name == "cross_entropy" and activation != "identity":
        assert found[0] == pytest.approx(sum(w * value for w, (value, _) in zip(WEIGHTS, each, strict=True)), rel=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "identity"])
def test_each_example_may_have_one_teacher(activation):
    chosen = RNG.integers(0, 3, (2, 5))
    found = mean_teacher(pairs(activation), jnp.moveaxis(jax.nn.one_hot(chosen, 3), -1, 0), T)
    right = np.take_along_axis(np.stack(TEACHERS), chosen[None, :, :, None], 0)[0]
    for name in ("cross_entropy", "kl", "mse" if activation != "softmax" else "dist"):  # logits have a free constant
        value = loss_and_gradient(name, replace(pairs(activation)[0], teacher=jnp.asarray(right)))[0]
        assert loss_and_gradient(name, found)[0] == pytest.approx(value, rel=1e-4), name


def test_entries_of_other_examples_stay_out():
    own = np.arange(6) < 4
    given = [replace(x, teacher=jnp.where(own, x.teacher, LOWEST)) for x in pairs("softmax")]
    found = mean_teacher(given, jnp.asarray(WEIGHTS), T)
    assert (np.asarray(found.own) == own).all()
    cut = [replace(x, student=x.student[..., :4], teacher=x.teacher[..., :4]) for x in pairs("softmax")]
    np.testing.assert_allclose(found.teacher[..., :4], mean_teacher(cut, jnp.asarray(WEIGHTS), T).teacher, rtol=1e-5)
