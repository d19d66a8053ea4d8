"""Losses against a teacher: values and gradients of their formulas, written anew in PyTorch, over the real slots."""
# ruff: noqa: E402 (without torch this file is skipped before it imports more)

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

torch = pytest.importorskip("torch")
functional = torch.nn.functional

from jaxft.config import DistillConfig
from jaxft.core.errors import UserError
from jaxft.losses import LOWEST, OutputPair, soft
from jaxft.step.distillation import check_options, soft_loss

RNG = np.random.default_rng(0)
SHAPE, CLASSES = (3, 4), 5
STUDENT, TEACHER = RNG.normal(0, 2, (2, *SHAPE, CLASSES)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, SHAPE).astype(np.int32)
REAL = RNG.random(SHAPE) < 0.7
SLOTS = REAL.astype(np.float32)
PAIR = OutputPair("softmax", STUDENT, TEACHER, SLOTS, LABELS)  # type: ignore[arg-type]


def torch_cross_entropy(student, teacher, t):
    return -((teacher / t).softmax(-1) * (student / t).log_softmax(-1)).sum(-1).mean()


def torch_kl(student, teacher, t):
    return functional.kl_div((student / t).log_softmax(-1), (teacher / t).softmax(-1), reduction="batchmean")


def torch_mse(student, teacher, t):
    return functional.mse_loss(student / t, teacher / t)


def torch_dist(student, teacher, t):
    """The code of the paper: 1 less the mean correlation of rows, and of columns."""

    def relation(x, y):
        x, y = (z - z.mean(1, keepdim=True) for z in (x, y))
        return 1 - functional.cosine_similarity(x, y, dim=1, eps=1e-8).mean()

    x, y = (student / t).softmax(-1), (teacher / t).softmax(-1)
    return relation(x, y) + relation(x.T, y.T)


def torch_rkd(student, teacher, t):
    """Distances over their mean (without zeros), and angles, each by smooth L1."""

    def distances(x):
        found = torch.cdist(x[None], x[None], compute_mode="donot_use_mm_for_euclid_dist")[0]
        return found / found[~torch.eye(len(x), dtype=torch.bool)].mean()

    def angles(x):
        unit = functional.normalize(x[None] - x[:, None], dim=2)
        return torch.bmm(unit, unit.transpose(1, 2))

    x, y = student / t, teacher / t
    apart = functional.smooth_l1_loss(distances(x), distances(y))
    return 25 * apart + 50 * functional.smooth_l1_loss(angles(x), angles(y))


THEIRS = {
    "cross_entropy": torch_cross_entropy,
    "kl": torch_kl,
    "mse": torch_mse,
    "dist": torch_dist,
    "rkd": torch_rkd,
}


def mean_and_gradient(of_pair, pair=PAIR):
    def mean(student):
        total, weight = of_pair(replace(pair, student=student))
        return total / weight

    value, gradient = jax.value_and_grad(mean)(jnp.asarray(pair.student))
    return float(value), np.asarray(gradient)


def assert_torch(of_pair, theirs, pair=PAIR):
    student = torch.tensor(np.asarray(pair.student), requires_grad=True)
    right = theirs(student[torch.tensor(REAL)], torch.tensor(np.asarray(pair.teacher))[torch.tensor(REAL)])
    right.backward()
    value, gradient = mean_and_gradient(of_pair, pair)
    assert value == pytest.approx(right.item(), rel=2e-6)
    np.testing.assert_allclose(gradient, student.grad.numpy(), rtol=1e-5, atol=1e-6)
    assert not gradient[~REAL].any()


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("name", soft.LOSSES)
def test_every_loss_is_its_formula(name, temperature):
    assert_torch(lambda pair: soft.LOSSES[name](pair, temperature), lambda x, y: THEIRS[name](x, y, temperature))


@pytest.mark.parametrize("name", soft.LOSSES)
def test_temperatures_of_examples_are_those_of_each(name):
    temperature = RNG.uniform(0.5, 4, SHAPE).astype(np.float32)
    by_row = torch.tensor(temperature[REAL])[:, None]
    assert_torch(lambda pair: soft.LOSSES[name](pair, jnp.asarray(temperature)), lambda x, y: THEIRS[name](x, y, by_row))


@pytest.mark.parametrize("name", ["cross_entropy", "kl", "mse"])
def test_sigmoids_and_numbers(name):
    several, t = replace(PAIR, activation="sigmoid"), 2.0

    def theirs(x, y):
        if name == "mse":
            return torch_mse(x, y, t)
        y = (y / t).sigmoid()
        entropy = functional.binary_cross_entropy(y, y) if name == "kl" else 0
        return functional.binary_cross_entropy_with_logits(x / t, y) - entropy

    assert_torch(lambda pair: soft.LOSSES[name](pair, t), theirs, several)
    numbers = replace(PAIR, activation="identity")
    assert_torch(lambda pair: soft.LOSSES[name](pair, t), functional.mse_loss, numbers)


@pytest.mark.parametrize("name", ["cross_entropy", "kl", "mse"])
def test_entries_of_other_examples_change_nothing(name):
    """Those of a packed row that belong to other examples are LOWEST, and there may be any number of them."""
    lowest = jnp.full((*SHAPE, 3), LOWEST)
    student, teacher = (jnp.concatenate([jnp.asarray(x), lowest], -1) for x in (STUDENT, TEACHER))
    padded = mean_and_gradient(lambda pair: soft.LOSSES[name](pair, 2.0), replace(PAIR, student=student, teacher=teacher))
    plain = mean_and_gradient(lambda pair: soft.LOSSES[name](pair, 2.0))
    assert padded[0] == pytest.approx(plain[0], rel=1e-6)
    np.testing.assert_allclose(padded[1][..., :CLASSES], plain[1], rtol=1e-6, atol=1e-8)
    assert not padded[1][..., CLASSES:].any()


@pytest.mark.parametrize("name", soft.LOSSES)
def test_it_does_not_matter_where_examples_lie(name):
    """In other slots and rows, beside more empty slots, and on 8 devices: the same loss, and the same gradients."""
    places = RNG.permutation(24)[:12]  # of the 12 slots among 8 x 3

    def moved(x):
        found = np.full((24, *x.shape[2:]), 7, np.float32)
        found[places] = x.reshape(12, *x.shape[2:])
        return found.reshape(8, 3, *x.shape[2:])

    weights = np.zeros(24, np.float32)
    weights[places] = SLOTS.reshape(-1)
    split = NamedSharding(Mesh(np.array(jax.devices()).reshape(8), ("data",)), PartitionSpec("data"))
    arrays = [jax.device_put(x, split) for x in (moved(STUDENT), moved(TEACHER), weights.reshape(8, 3))]
    gradient = jax.jit(jax.value_and_grad(lambda *x: soft.LOSSES[name](OutputPair("softmax", *x), 2.0)[0]))
    total, found = gradient(*arrays)
    right, expected = gradient(STUDENT, TEACHER, SLOTS)
    assert float(total) == pytest.approx(float(right), rel=1e-6)
    np.testing.assert_allclose(found, np.where(weights.reshape(8, 3, 1) > 0, moved(np.asarray(expected)), 0), atol=2e-6)


@pytest.mark.parametrize("name", ["dist", "rkd"])
def test_examples_that_are_the_same_have_finite_gradients(name):
    """Correlations and distances of constants have no derivative; PyTorch's norm takes 0."""
    same = jnp.broadcast_to(jnp.asarray(STUDENT[:1, :1]), STUDENT.shape)
    for pair in (replace(PAIR, student=same), replace(PAIR, weights=jnp.asarray(SLOTS * 0).at[0, 0].set(1))):
        value, gradient = mean_and_gradient(lambda x: soft.LOSSES[name](x, 2.0), pair)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_the_probability_shift_exchanges_two_logits():
    """TextBrewer: the highest value goes to the right label, and that label's value to where the highest was."""
    found = np.asarray(soft.shifted(replace(PAIR, labels=jnp.asarray(LABELS).at[0, 0].set(-1))).teacher)
    for place in np.ndindex(SHAPE):
        expected, best, right = TEACHER[place].copy(), TEACHER[place].argmax(), LABELS[place]
        if place != (0, 0):  # whose label is not known
            expected[best], expected[right] = expected[right], expected[best]
        np.testing.assert_array_equal(found[place], expected)


def test_temperatures_that_follow_the_student():
    """TextBrewer's flsw and cwsm over the real slots."""
    student, teacher = (torch.tensor(x[REAL]) for x in (STUDENT, TEACHER))
    v, t = (x / (x.norm(dim=-1, keepdim=True) + 1e-4) for x in (student, teacher))
    w = (1 - (v * t).sum(-1)) ** 1.5
    found = soft.flsw_temperature(PAIR, 3.0, 0.7, 1.5)
    np.testing.assert_allclose(np.asarray(found)[REAL], (3 + (w.mean() - w) * 0.7).numpy(), rtol=1e-5)
    w = 1 / (student.softmax(-1).max(-1)[0] + 1e-3)
    found = soft.cwsm_temperature(PAIR, 3.0, 0.7)
    np.testing.assert_allclose(np.asarray(found)[REAL], (3 + (w.mean() - w) * 0.7).numpy(), rtol=1e-5)


def test_no_temperature_falls_to_zero():
    """With many labels w differs by far more than the temperature."""
    sure = np.zeros((1, 2, 40), np.float32)
    sure[0, 0, 0] = 20
    pair = replace(PAIR, student=jnp.asarray(sure), weights=jnp.ones((1, 2)))
    found = np.asarray(soft.cwsm_temperature(pair, 3.0, 1.0))
    np.testing.assert_allclose(found, [[3 + (1 / 0.026 - 1 / 1.001) / 2, 0.3]], rtol=1e-5)


def test_options_of_a_config_are_used():
    def total(pairs=(PAIR,), **options):
        return float(soft_loss(pairs, DistillConfig(temperature=2.0, **options)))

    plain = float(soft.soft_cross_entropy(PAIR, 2.0)[0])
    assert total() == pytest.approx(4 * plain, rel=1e-6)
    assert total(squared_temperature=False) == pytest.approx(plain, rel=1e-6)
    assert total(pairs=(PAIR, replace(PAIR, share=0.25))) == pytest.approx(5 * plain, rel=1e-6)
    moved = float(soft.soft_cross_entropy(soft.shifted(PAIR), 2.0)[0])
    assert total(probability_shift=True) == pytest.approx(4 * moved, rel=1e-6)
    own = soft.cwsm_temperature(PAIR, 2.0, 0.5)
    each = soft.soft_cross_entropy(replace(PAIR, weights=SLOTS * own**2), own)[0]
    assert total(temperature_schedule="cwsm", temperature_beta=0.5) == pytest.approx(float(each), rel=1e-6)
    numbers = replace(PAIR, activation="identity")
    assert total(pairs=(numbers,)) == pytest.approx(float(soft.soft_cross_entropy(numbers, 1.0)[0]), rel=1e-6)


@pytest.mark.parametrize(
    ("pair", "options", "words"),
    [
        (replace(PAIR, between=False), {"loss": "rkd"}, "rkd: compares whole texts, and this task has outputs of tokens"),
        (replace(PAIR, activation="sigmoid"), {"probability_shift": True}, "needs a task with one right answer"),
        (replace(PAIR, activation="identity"), {"temperature_schedule": "flsw"}, "needs a task with one right answer"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(pair, options, words):
    with pytest.raises(UserError, match=words):
        soft_loss([pair], DistillConfig(**options))


@pytest.mark.parametrize("options", [{"loss": "dist"}, {"temperature_schedule": "flsw"}])
def test_examples_of_a_step_are_compared_in_one_piece(options):
    check_options(DistillConfig(**options), 1)
    with pytest.raises(UserError, match=r"needs train\.micro_batches 1"):
        check_options(DistillConfig(**options), 2)
