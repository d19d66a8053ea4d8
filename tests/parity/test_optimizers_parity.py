"""Twenty steps of a small model give the losses of PyTorch's optimizers."""
# ruff: noqa: E402 (without torch this file is skipped before it imports more)

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from transformers.optimization import Adafactor

import jaxft
from jaxft.config import OptimConfig
from tests.support.torch_training import CLIP, WARMUP, decay_groups, jaxft_metrics, torch_losses, write_learnable_batches

STEPS, DECAY = 20, 0.1
# our name: learning rate, PyTorch's optimizer, our arguments
OPTIMIZERS = {
    "sgd": (0.05, lambda groups, rate: torch.optim.SGD(groups, rate, momentum=0.9), {}),
    "sgd nesterov": (
        0.05,
        lambda groups, rate: torch.optim.SGD(groups, rate, momentum=0.8, nesterov=True),
        {
            "momentum": 0.8,
            "nesterov": True,
        },
    ),
    "adam": (2e-3, torch.optim.Adam, {}),
    "rmsprop": (5e-4, torch.optim.RMSprop, {}),
    "rmsprop with momentum": (2e-4, lambda groups, rate: torch.optim.RMSprop(groups, rate, momentum=0.5), {"momentum": 0.5}),
    "adagrad": (5e-3, torch.optim.Adagrad, {}),
    "adafactor": (
        0.05,
        lambda groups, rate: Adafactor(groups, rate, scale_parameter=True, relative_step=False),
        {},
    ),
    "adafactor without scale": (
        2e-3,
        lambda groups, rate: Adafactor(groups, rate, scale_parameter=False, relative_step=False),
        {"scale_parameter": False},
    ),
}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    directory = tmp_path_factory.mktemp("case")
    return directory, *write_learnable_batches(directory, STEPS)


def loss_of(model, inputs, labels):
    return model(**{name: torch.tensor(x) for name, x in inputs.items()}, labels=torch.tensor(labels)).loss


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps_give_the_same_losses(case, name):
    directory, model, batches = case
    rate, make, arguments = OPTIMIZERS[name]
    config = OptimConfig(
        name=name.split()[0], learning_rate=rate, weight_decay=DECAY, warmup=WARMUP, clip=CLIP, arguments=arguments
    )
    theirs = copy.deepcopy(model)
    expected = torch_losses(theirs, batches, make(decay_groups(theirs, DECAY), rate))
    ours = jaxft_metrics(*jaxft.load(str(directory), unroll=1), batches, config)
    assert abs(expected[-1] - loss_of(model, *batches[-1]).item()) > 0.02  # the last loss without training
    np.testing.assert_allclose([row["loss"] for row in ours], expected, atol=1e-4, rtol=0)


def test_adafactor_with_relative_steps_gives_the_same_losses(case):
    """Adafactor then chooses the rate: optim.learning_rate is a factor of 1 and the schedule is constant."""
    directory, model, batches = case
    config = OptimConfig(
        name="adafactor",
        learning_rate=1.0,
        schedule="constant",
        warmup=0,
        weight_decay=DECAY,
        arguments={"relative_step": True},
    )
    theirs = copy.deepcopy(model)
    optimizer = Adafactor(decay_groups(theirs, DECAY), relative_step=True, warmup_init=False)
    expected = []
    for inputs, labels in batches:
        loss = loss_of(theirs, inputs, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        expected.append(loss.item())
    ours = jaxft_metrics(*jaxft.load(str(directory), unroll=1), batches, config)
    np.testing.assert_allclose([row["loss"] for row in ours], expected, atol=1e-4, rtol=0)
