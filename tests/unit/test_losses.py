"""Every loss and its gradient against PyTorch, and the focal loss against its closed form."""
# ruff: noqa: E402 (without torch this file is skipped before it imports more)

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from jaxft import losses

RNG = np.random.default_rng(0)
SHAPE, CLASSES = (4, 5), 7
LOGITS = RNG.normal(0, 3, (*SHAPE, CLASSES)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, SHAPE).astype(np.int32)
HOT = RNG.integers(0, 2, (*SHAPE, CLASSES)).astype(np.int8)
NUMBERS = RNG.normal(0, 2, (*SHAPE, CLASSES)).astype(np.float32)
SLOTS = (RNG.random(SHAPE) < 0.7).astype(np.float32)  # the others are empty slots
REAL = SLOTS == 1
WEIGHTS = RNG.uniform(0.01, 3, CLASSES).astype(np.float32)


def mean_and_gradient(loss) -> tuple[float, np.ndarray]:
    """The mean and the gradient of a `WeightedSum` at LOGITS."""

    def mean(logits):
        total, weight = loss(logits)
        return total / weight

    value, gradient = jax.value_and_grad(mean)(LOGITS)
    return float(value), np.asarray(gradient)


def assert_torch(loss, theirs) -> None:
    """The mean over real slots and its gradient are torch's."""
    logits = torch.tensor(LOGITS, requires_grad=True)
    right = theirs(logits[torch.tensor(REAL)])
    right.backward()
    value, gradient = mean_and_gradient(loss)
    assert value == pytest.approx(right.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, logits.grad.numpy(), rtol=1e-5, atol=1e-7)
    assert not gradient[~REAL].any()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_is_torchs(smoothing, weighted):
    weights = WEIGHTS if weighted else None
    theirs = torch.nn.CrossEntropyLoss(weight=torch.tensor(weights) if weighted else None, label_smoothing=smoothing)
    labels = torch.tensor(LABELS[REAL], dtype=torch.int64)
    assert_torch(lambda logits: losses.cross_entropy(logits, LABELS, SLOTS, smoothing, weights), lambda x: theirs(x, labels))


def test_class_weights_that_add_up_to_less_than_one_are_still_a_mean():
    """Only their ratios matter, in a step too (programs/test_text_classification.py)."""
    one, tiny = (
        mean_and_gradient(lambda x, k=k: losses.cross_entropy(x, LABELS, SLOTS, 0.1, WEIGHTS * k)) for k in (1, 1e-4)
    )
    assert tiny[0] == pytest.approx(one[0], rel=1e-5)
    np.testing.assert_allclose(tiny[1], one[1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_its_closed_form(gamma):
    """- w (1 - p) ** gamma log p of the gold label, over the sum of w (Lin et al. 2017, equation 5)."""
    total, weight = losses.cross_entropy(LOGITS, LABELS, SLOTS, 0.0, WEIGHTS, gamma)
    logits = LOGITS[REAL].astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    p, w = p[np.arange(len(p)), LABELS[REAL]], WEIGHTS[LABELS[REAL]]
    assert float(weight) == pytest.approx(w.sum(), rel=1e-5)
    assert float(total) == pytest.approx(-(w * (1 - p) ** gamma * np.log(p)).sum(), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_at_certainty_has_a_finite_gradient(gamma):
    logits = np.array([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]], np.float32)
    labels, ones = np.array([0, 0]), np.ones(2, np.float32)
    loss, gradient = jax.value_and_grad(lambda x: losses.cross_entropy(x, labels, ones, 0.0, None, gamma)[0])(logits)
    assert float(loss) == pytest.approx(200, rel=1e-5)
    np.testing.assert_allclose(gradient, [[0, 0, 0], [-1, 1, 0]], atol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_sigmoid_cross_entropy_is_torchs(weighted):
    weights = WEIGHTS if weighted else None
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weights) if weighted else None)
    targets = torch.tensor(HOT[REAL], dtype=torch.float32)
    assert_torch(lambda logits: losses.sigmoid_cross_entropy(logits, HOT, SLOTS, weights), lambda x: theirs(x, targets))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_sigmoid_focal_loss_is_its_closed_form(gamma):
    total, weight = losses.sigmoid_cross_entropy(LOGITS, HOT, SLOTS, WEIGHTS, gamma)
    p = 1 / (1 + np.exp(-LOGITS[REAL].astype(np.float64)))
    yes, no = WEIGHTS * (1 - p) ** gamma * np.log(p), p**gamma * np.log(1 - p)
    assert float(weight) == REAL.sum()
    assert float(total) == pytest.approx(-np.where(HOT[REAL] == 1, yes, no).mean(-1).sum(), rel=1e-5)


def test_squared_error_is_torchs():
    targets = torch.tensor(NUMBERS[REAL])
    assert_torch(
        lambda logits: losses.squared_error(logits, NUMBERS, SLOTS), lambda x: torch.nn.functional.mse_loss(x, targets)
    )
