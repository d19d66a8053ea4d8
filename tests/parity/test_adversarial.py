"""Adversarial training equals its formulas in PyTorch: losses and gradients, for texts alone in a row and packed ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.config.adversarial import AdversarialConfig
from jaxft.core.random_keys import root_key
from jaxft.losses import OutputPair, cross_entropy
from jaxft.step.adversarial import with_adversary, with_virtual_adversary
from jaxft.step.parameters import Parameters
from jaxft.step.perturbation import PERTURBATION, Perturbation, with_seeds

torch = pytest.importorskip("torch")

WIDTH, HIDDEN, LABELS = 5, 7, 3
LENGTHS = (4, 2, 6)
NUMBERS = (31, 7, 12)  # of the examples in the data
RANDOM = np.random.default_rng(3)
WORDS = RANDOM.normal(size=(20, WIDTH)).astype(np.float32)
WEIGHTS = {
    "first": RANDOM.normal(size=(WIDTH, HIDDEN)).astype(np.float32),
    "second": RANDOM.normal(size=(HIDDEN, LABELS)).astype(np.float32),
}
IDS = [RANDOM.integers(0, 20, n) for n in LENGTHS]
TARGETS = RANDOM.integers(0, LABELS, len(LENGTHS))


def batch_of(*, packed: bool) -> dict[str, jax.Array]:
    """The three texts in rows of their own, or the first two in one; [1, R, ...], with seeds."""
    rows = [[0, 1], [2]] if packed else [[0], [1], [2]]
    ids, segments, positions = np.zeros((3, 1, len(rows), 8), np.int32)
    first, example, labels = np.zeros((3, 1, len(rows), 2), np.int32)
    weights = np.zeros((1, len(rows), 2), np.float32)
    for r, texts in enumerate(rows):
        at = 0
        for m, text in enumerate(texts):
            own = slice(at, at + LENGTHS[text])
            ids[0, r, own], segments[0, r, own], positions[0, r, own] = IDS[text], m + 1, np.arange(LENGTHS[text])
            first[0, r, m], example[0, r, m], labels[0, r, m] = at, NUMBERS[text], TARGETS[text]
            weights[0, r, m] = 1
            at += LENGTHS[text]
    batch = {"input_ids": ids, "segment_ids": segments, "position_ids": positions, "first_token": first}
    batch |= {"example": example, "labels": labels, "weights": weights}
    return with_seeds({name: jnp.asarray(x) for name, x in batch.items()}, root_key(5))


class Task:
    """Predictions are compared by their softmax."""

    def soft_pairs(self, outputs, teacher, batch):
        return [OutputPair("softmax", outputs["logits"], teacher["logits"], batch["weights"])]


def jax_loss(params, batch, key, hyper):
    """A small model: a sum over the tokens of tanh(words W) of each text, then labels."""
    words = params.model["words"][batch["input_ids"]] + batch.get(PERTURBATION, 0.0)
    hidden = jnp.tanh(words @ params.model["first"])
    own = batch["segment_ids"][:, None] == jnp.arange(1, 3).reshape(1, 2, 1)
    logits = jnp.einsum("rmt,rth->rmh", own.astype(jnp.float32), hidden) @ params.model["second"]
    return cross_entropy(logits, batch["labels"], batch["weights"]), {"logits": logits}


def torch_logits(params, words):
    return [torch.tanh(x @ params["first"]).sum(0) @ params["second"] for x in words]


def torch_loss(logits):
    return sum(
        torch.nn.functional.cross_entropy(x[None], torch.tensor([int(y)])) for x, y in zip(logits, TARGETS, strict=True)
    )


def size(x, norm):
    return x.norm() if norm == "l2" else x.abs().max()


def projected(x, norm, epsilon):
    if epsilon is None:
        return x
    if norm == "linf":
        return x.clamp(-epsilon, epsilon)
    return x if x.norm() <= epsilon else x * epsilon / x.norm()


def moved(perturbations, gradients, step, norm, epsilon):
    """A step of each text's perturbation along its own gradient."""
    return [
        projected(d + step * g / size(g, norm), norm, epsilon).detach()
        for d, g in zip(perturbations, gradients, strict=True)
    ]


def kl(p, q):
    """KL(p || q) of logits, summed over the texts."""
    log = torch.nn.functional.log_softmax
    return sum((log(a, -1).exp() * (log(a, -1) - log(b, -1))).sum() for a, b in zip(p, q, strict=True))


def torch_value(config, start):
    """The loss of a method by its formula, and the parameters with their gradients, float64."""
    params = {
        name: torch.tensor(x, dtype=torch.float64, requires_grad=True) for name, x in {**WEIGHTS, "words": WORDS}.items()
    }
    norm, epsilon, option = config.value("norm") or "l2", config.value("epsilon"), config.value

    def at(perturbations):
        return torch_logits(params, [params["words"][i] + d for i, d in zip(IDS, perturbations, strict=True)])

    def outward(objective, perturbations):
        own = [d.clone().requires_grad_() for d in perturbations]
        return torch.autograd.grad(objective(own), own)

    def labels(perturbations):
        return torch_loss(at(perturbations))

    none = [torch.zeros(n, WIDTH, dtype=torch.float64) for n in LENGTHS]
    start = [torch.tensor(x, dtype=torch.float64) for x in start]
    if config.method in ("fgm", "pgd"):
        d = none
        for _ in range(option("steps") or 1):
            d = moved(d, outward(labels, d), option("step_size") or epsilon, norm, epsilon)
        total = labels(none) + option("weight") * labels(d)
    elif config.method == "freelb":
        d, total = [projected(x, norm, epsilon) for x in start], 0
        for _ in range(option("steps")):
            total = total + labels(d) / option("steps")
            d = moved(d, outward(labels, d), option("step_size"), norm, epsilon)
    else:
        clean = at(none)
        fixed = [x.detach() for x in clean]
        if config.method == "smart":
            d = [projected(x, norm, epsilon) for x in start]
            for _ in range(option("steps")):
                gradients = outward(lambda own: kl(at(own), fixed) + kl(fixed, at(own)), d)
                d = moved(d, gradients, option("step_size"), norm, epsilon)
            smooth = kl(at(d), clean) + kl(clean, at(d))
        else:
            d = [option("start") * x / x.norm() for x in start]
            for _ in range(option("steps")):
                d = [option("start") * g / g.norm() for g in outward(lambda own: kl(fixed, at(own)), d)]
            smooth = kl(fixed, at([epsilon * x / x.norm() for x in d]))
        total = torch_loss(clean) + option("weight") * smooth
    total.backward()
    return float(total.detach()), {name: x.grad.numpy() for name, x in params.items()}


METHODS = {
    "fgm": {"method": "fgm", "epsilon": 0.7, "weight": 0.6},
    "fgm, linf": {"method": "fgm", "epsilon": 0.05, "norm": "linf"},
    "pgd": {"method": "pgd", "steps": 4, "step_size": 0.3, "epsilon": 0.8, "weight": 1.5},
    "pgd, linf": {"method": "pgd", "steps": 2, "step_size": 0.1, "epsilon": 0.15, "norm": "linf"},
    "freelb": {"method": "freelb", "steps": 3, "step_size": 0.2, "start": 0.6},
    "freelb in a ball": {"method": "freelb", "steps": 3, "step_size": 0.2, "start": 0.6, "epsilon": 0.3},
    "freelb, linf": {"method": "freelb", "steps": 2, "step_size": 0.1, "start": 0.2, "epsilon": 0.25, "norm": "linf"},
    "smart": {"method": "smart", "start": 0.05, "step_size": 0.2, "steps": 2, "weight": 3.0},
    "smart, l2 ball": {"method": "smart", "start": 0.05, "step_size": 0.5, "norm": "l2", "epsilon": 0.4},
    "vat": {"method": "vat", "epsilon": 0.5, "start": 0.1, "weight": 2.0},
    "vat, more steps": {"method": "vat", "epsilon": 0.5, "start": 0.1, "steps": 3},
}


def own_parts(x, batch):
    """The parts of the three texts of an array [R, T, E]."""
    found = {}
    for r, m in zip(*np.nonzero(np.asarray(batch["weights"])), strict=True):
        number, begin = int(batch["example"][r, m]), int(batch["first_token"][r, m])
        found[number] = np.asarray(x[r, begin : begin + LENGTHS[NUMBERS.index(number)]])
    return [found[n] for n in NUMBERS]


@pytest.mark.parametrize("packed", [False, True], ids=["alone", "packed"])
@pytest.mark.parametrize("method", METHODS)
def test_losses_and_gradients_are_those_of_the_formulas(method, packed):
    config = AdversarialConfig(**METHODS[method])
    config.validate("adversarial.")
    batch = {name: x[0] for name, x in batch_of(packed=packed).items()}
    space = Perturbation(batch, WIDTH, config.value("norm") or "l2")
    size = config.value("start") or 0.0
    start = space.uniform(size) if config.method == "freelb" else space.normal() * (size if config.method == "smart" else 1)
    expected, right = torch_value(config, own_parts(start, batch))
    if config.method in ("smart", "vat"):
        loss = with_virtual_adversary(jax_loss, Task(), config, WIDTH)  # type: ignore[arg-type]
    else:
        loss = with_adversary(jax_loss, config, WIDTH)
    model = {name: jnp.asarray(x) for name, x in {**WEIGHTS, "words": WORDS}.items()}

    def total(model):
        (value, weight), _ = loss(Parameters(model), batch, root_key(0), {})
        return value, weight

    (value, weight), found = jax.jit(jax.value_and_grad(total, has_aux=True))(model)
    assert float(weight) == len(LENGTHS)
    assert float(value) == pytest.approx(expected, rel=1e-6)
    for name, gradient in right.items():
        np.testing.assert_allclose(found[name], gradient, rtol=0, atol=1e-5 * np.abs(gradient).max(), err_msg=name)
