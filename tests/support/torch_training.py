"""The same training steps in PyTorch and in jaxft: a model, batches from which it learns, and the losses of both."""
# ruff: noqa: E402 (without torch every test that imports this is skipped)

from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxft.core import random_keys

torch = pytest.importorskip("torch")

from transformers import (
    BertConfig,
    BertForSequenceClassification,
    get_linear_schedule_with_warmup,
)

from jaxft.config import OptimConfig, PlanConfig
from jaxft.core import tree
from jaxft.optim import hyperparameters, make_optimizer
from jaxft.param_plan import make_plan
from jaxft.run.loss import make_loss
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import init_state, train_step
from jaxft.tasks.text_classification import TextClassification
from tests.support import tiny, zoo_torch


def write_hf(directory: Path, model_class: type, config: dict, seed: int = 0):
    """A random Hugging Face model in evaluation mode, also written to `directory`."""
    torch.manual_seed(seed)
    model = model_class(BertConfig(**config)).eval()
    zoo_torch.add_noise(model)
    model.save_pretrained(directory)
    return model


def random_inputs(config: dict, rows: int, length: int, seed: int = 0, lowest_id: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, length + 1, rows)
    return {
        "input_ids": rng.integers(lowest_id, config["vocab_size"], (rows, length)),
        "attention_mask": (np.arange(length)[None] < lengths[:, None]).astype(int),
        "token_type_ids": rng.integers(0, config["type_vocab_size"], (rows, length)),
    }


STEPS, WARMUP, CLIP = 50, 5, 1.0


OPTIM = OptimConfig(learning_rate=2e-3, weight_decay=0.1, warmup=WARMUP, clip=CLIP)


def decay_groups(model, weight_decay: float) -> list[dict]:
    """Hugging Face Trainer's parameter groups."""
    decayed = {True: [], False: []}
    for name, parameter in model.named_parameters():
        decayed["bias" not in name and "LayerNorm" not in name].append(parameter)
    return [{"params": decayed[True], "weight_decay": weight_decay}, {"params": decayed[False], "weight_decay": 0.0}]


def torch_losses(model, batches, optimizer) -> list[float]:
    """A training loop with a linear schedule and clipping."""
    schedule = get_linear_schedule_with_warmup(optimizer, WARMUP, len(batches))
    seen = []
    for inputs, labels in batches:
        loss = model(**{name: torch.tensor(x) for name, x in inputs.items()}, labels=torch.tensor(labels)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        seen.append(loss.item())
    return seen


def as_batch(inputs: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, np.ndarray]:
    """One micro-batch with one example per row, of PyTorch's inputs [rows, length] and labels [rows]."""
    rows, length = inputs["input_ids"].shape
    batch = {
        "input_ids": inputs["input_ids"],
        "segment_ids": inputs["attention_mask"],
        "token_type_ids": inputs.get("token_type_ids", np.zeros((rows, length))),
        "position_ids": np.tile(np.arange(length), (rows, 1)),
        "first_token": np.zeros((rows, 1)),
        "labels": labels[:, None],
    }
    batch = {name: x[None].astype(np.int32) for name, x in batch.items()}
    return batch | {"weights": np.ones((1, rows, 1), np.float32)}


def jaxft_metrics(
    model, params, batches, optim: OptimConfig = OPTIM, config: PlanConfig = PlanConfig()
) -> list[dict[str, float]]:
    plan = make_plan(config, params, model.encoder.config.num_layers)
    optimizer = make_optimizer(optim, plan, len(batches))
    trainable, frozen = plan.split(params)
    state = init_state(trainable, optimizer, random_keys.root_key(0), hyperparameters(optim))
    loss_fn = make_loss(model, TextClassification(tuple(model.labels)))
    step = jax.jit(partial(train_step, loss_fn=loss_fn, optimizer=optimizer))
    seen = []
    for inputs, labels in batches:
        state, metrics = step(state, Parameters(frozen), as_batch(inputs, labels))
        seen.append({name: float(x) for name, x in metrics.items()})
    assert tree.count(state.params) == sum(row.parameters for row in plan.rows if row.setting.trainable)
    return seen


def write_learnable_batches(directory: Path, steps: int = STEPS):
    """Returns (PyTorch's model without dropout, batches from which it learns) and writes the model to `directory`."""
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    config = {key: x for key, x in tiny.CONFIG.items() if key not in ("model_type", "architectures")} | rates
    model = write_hf(directory, BertForSequenceClassification, config | {"num_labels": 3})
    batches = []
    for seed in range(steps):
        # PyTorch never trains the row of pad_token_id, 0 here; only a text without padding would hold it.
        inputs = random_inputs(config, rows=16, length=10, seed=seed, lowest_id=1)
        batches.append((inputs, inputs["input_ids"][:, 0] % 3))  # learnable from the first token
    return model, batches
