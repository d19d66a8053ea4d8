"""The loss and the gradients of domain-adversarial training are those of PyTorch with a reversal of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.losses import cross_entropy
from jaxft.step.domain_head import HEAD, add_domain_head, domain_widths
from jaxft.step.domains import DOMAIN, DomainLoss, count_domains, reversed_gradient, with_domains
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import METRICS, STEP

torch = pytest.importorskip("torch")

WIDTH, LABELS, DOMAINS, TEXTS = 5, 3, 3, 6
RANDOM = np.random.default_rng(4)
WORDS = RANDOM.normal(size=(20, WIDTH)).astype(np.float32)
FIRST = RANDOM.normal(size=(WIDTH, WIDTH)).astype(np.float32)
SECOND = RANDOM.normal(size=(WIDTH, LABELS)).astype(np.float32)
IDS, TARGETS = RANDOM.integers(0, 20, TEXTS), RANDOM.integers(0, LABELS, TEXTS)
OF_DOMAIN = np.array([0, 2, 1, 1, 0, 2])
WEIGHTS = np.array([1, 0.5, 2, 1, 0, 0], np.float32)  # the last two have no label
CLASSES = (1.0, 3.0, 0.5)


class Task:
    """A classifier with class weights."""

    def text_weights(self, batch):
        return batch["weights"] * jnp.asarray(CLASSES)[batch["labels"]]


def jax_loss(params, batch, key, hyper):
    hidden = jnp.tanh(params.model["words"][batch["input_ids"]] @ params.model["first"])
    logits = jnp.take_along_axis(hidden, batch["first_token"][..., None], axis=1) @ params.model["second"]
    return cross_entropy(logits, batch["labels"], batch["weights"], 0.0, CLASSES), {"hidden_states.2": hidden}


def batch_of(*, packed: bool) -> dict:
    """[1, R, ...]: texts of one token each, behind another token."""
    rows = [[0, 1, 2], [3, 4], [5]] if packed else [[i] for i in range(TEXTS)]
    ids = np.full((1, len(rows), 6), 7)
    first, labels, domain, example = np.zeros((4, 1, len(rows), 3), np.int32)
    weights, example = np.zeros(first.shape, np.float32), example - 1
    for r, texts in enumerate(rows):
        for m, text in enumerate(texts):
            first[0, r, m], ids[0, r, 2 * m + 1] = 2 * m + 1, IDS[text]
            labels[0, r, m], domain[0, r, m], example[0, r, m] = TARGETS[text], OF_DOMAIN[text], text
            weights[0, r, m] = WEIGHTS[text]
    batch = {"input_ids": ids, "first_token": first, "labels": labels, DOMAIN: domain, "example": example}
    return {name: jnp.asarray(x, jnp.int32) for name, x in batch.items()} | {"weights": jnp.asarray(weights)}


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.factor * gradient, None


def torch_value(head, factor):
    """(loss, domain loss, accuracy, parameters with gradients), float64."""
    values = {"words": WORDS, "first": FIRST, "second": SECOND}
    values |= {f"{layer}.{name}": x for layer, own in head.items() for name, x in own.items()}
    p = {name: torch.tensor(np.asarray(x), dtype=torch.float64, requires_grad=True) for name, x in values.items()}
    hidden = torch.tanh(p["words"][torch.tensor(IDS)] @ p["first"])
    costs = torch.nn.functional.cross_entropy(hidden @ p["second"], torch.tensor(TARGETS), reduction="none")
    weights = torch.tensor(WEIGHTS * np.array(CLASSES)[TARGETS])
    x = Reversal.apply(hidden, factor)
    if "hidden" in head:
        x = torch.relu(x @ p["hidden.kernel"] + p["hidden.bias"])
    logits = x @ p["output.kernel"] + p["output.bias"]
    second = torch.nn.functional.cross_entropy(logits, torch.tensor(OF_DOMAIN))
    total = (costs * weights).sum() / weights.sum() + second
    total.backward()
    right = (logits.argmax(-1) == torch.tensor(OF_DOMAIN)).double().mean()
    return total.item(), second.item(), right.item(), {name: x.grad.numpy() for name, x in p.items()}


@pytest.mark.parametrize("packed", [False, True], ids=["alone", "packed"])
@pytest.mark.parametrize("widths", [[WIDTH, DOMAINS], [WIDTH, 4, DOMAINS]], ids=["linear", "hidden"])
def test_loss_and_gradients_are_those_of_a_reversal_in_torch(widths, packed):
    head = add_domain_head({"heads": {}}, widths, seed=1)["heads"][HEAD]
    head = jax.tree.map(lambda x: x + RANDOM.normal(size=x.shape).astype(np.float32) / 2, head)
    assert domain_widths({"heads": {HEAD: head}}) == widths
    domain_loss = DomainLoss(weight=0.8, gamma=10.0, total_steps=100, output="hidden_states.2")
    factor = 0.8 * (2 / (1 + np.exp(-10 * 0.07)) - 1)
    expected, domain, accuracy, right = torch_value(head, factor)
    batch = {name: x[0] for name, x in count_domains(Task(), batch_of(packed=packed)).items()}
    model = {"words": jnp.asarray(WORDS), "first": jnp.asarray(FIRST), "second": jnp.asarray(SECOND)}

    def mean(model):
        loss = with_domains(jax_loss, domain_loss)
        (total, weight), outputs = loss(Parameters(model), batch, jax.random.key(0), {STEP: jnp.asarray(7)})
        return total / weight, {name: x for name, x in outputs.items() if name.startswith(METRICS)}

    (value, metrics), found = jax.jit(jax.value_and_grad(mean, has_aux=True))(model | {"heads": {HEAD: head}})
    assert float(value) == pytest.approx(expected, rel=1e-6)
    figures = {"loss": domain, "accuracy": accuracy, "lambda": factor}
    assert {name: float(x) for name, x in metrics.items()} == pytest.approx(
        {f"{METRICS}domains/{name}": x for name, x in figures.items()}, rel=1e-6
    )
    own = {name: x for name, x in found.items() if name != "heads"}
    own |= {f"{layer}.{name}": x for layer, part in found["heads"][HEAD].items() for name, x in part.items()}
    assert own.keys() == right.keys()
    for name, gradient in right.items():
        np.testing.assert_allclose(own[name], gradient, rtol=0, atol=1e-6 * np.abs(gradient).max(), err_msg=name)


def test_the_gradient_is_reversed():
    x = jnp.asarray([1.0, -2.0, 3.0])
    value, gradient = jax.value_and_grad(lambda x: (reversed_gradient(x, jnp.asarray(0.5)) ** 2).sum())(x)
    assert value == 14
    np.testing.assert_array_equal(gradient, -x)


def test_the_factor_rises_with_the_share_of_steps_done():
    loss = DomainLoss(weight=1.0, gamma=10.0, total_steps=10, output="")
    found = [float(loss.factor(jnp.asarray(step))) for step in range(11)]
    assert found == pytest.approx([np.tanh(10 * p / 10 / 2) for p in range(11)], abs=1e-6)
    assert found[0] == 0
