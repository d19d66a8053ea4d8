"""Layer-wise decay and gradual unfreezing against PyTorch: parameter groups, and `requires_grad` with AdamW."""
# ruff: noqa: E402

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.core import random_keys

torch = pytest.importorskip("torch")

from transformers import BertConfig, BertForSequenceClassification, get_linear_schedule_with_warmup

import jaxft
from jaxft.config import MeshConfig, OptimConfig, PlanConfig
from jaxft.core import tree
from jaxft.optim import hyperparameters, make_optimizer
from jaxft.parallel import sharding
from jaxft.param_plan import make_plan
from jaxft.run.loss import make_loss
from jaxft.step.parameters import Parameters
from jaxft.step.stages import later_stages, open_stage
from jaxft.step.train_step import init_state, train_step
from jaxft.tasks.text_classification import TextClassification
from tests.support import tiny
from tests.support.torch_training import as_batch

STEPS, LAYERS, EVERY, DECAY = 20, 3, 4, 0.6
OPTIM = OptimConfig(learning_rate=3e-3, weight_decay=0.1, warmup=3, clip=1.0)
PRESETS = ["layerwise_decay", "gradual", ["gradual", "layerwise_decay"]]


def height(name: str) -> int:
    """0 for heads and pooler, 1 for the top layer, and so on, for names of jaxft and of PyTorch."""
    if "embeddings" in name:
        return LAYERS + 1
    return LAYERS - int(name.partition("layer.")[2].partition(".")[0]) if "layer." in name else 0


def begins(name: str) -> int:
    return EVERY * min(height(name), LAYERS)


def torch_losses(model, batches, preset) -> list[float]:
    gradual, layerwise = "gradual" in preset, "layerwise_decay" in preset
    groups = []
    for name, parameter in model.named_parameters():
        decayed = OPTIM.weight_decay if "bias" not in name and "LayerNorm" not in name else 0.0
        rate = DECAY ** height(name) if layerwise else 1.0
        groups.append({"params": [parameter], "weight_decay": decayed, "lr": OPTIM.learning_rate * rate})
    optimizer = torch.optim.AdamW(groups)
    schedule = get_linear_schedule_with_warmup(optimizer, int(OPTIM.warmup), STEPS)
    seen = []
    for step, (inputs, labels) in enumerate(batches):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not gradual or begins(name) <= step)
        loss = model(**{name: torch.tensor(x) for name, x in inputs.items()}, labels=torch.tensor(labels)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], OPTIM.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        seen.append(loss.item())
    return seen


def jaxft_losses(model, params, batches, preset) -> list[float]:
    config = PlanConfig(preset=preset, unfreeze_every=EVERY, layer_decay=DECAY)
    plan = make_plan(config, params, LAYERS, total_steps=STEPS)
    mesh = sharding.make_mesh(MeshConfig(1))
    optimizer = make_optimizer(OPTIM, plan, STEPS)
    trainable, rest = plan.split(jax.tree.map(jnp.asarray, params))
    frozen = Parameters(rest)
    state = init_state(trainable, optimizer, random_keys.root_key(0), hyperparameters(OPTIM))
    loss_fn = make_loss(model, TextClassification(tuple(model.labels)))
    step = jax.jit(partial(train_step, loss_fn=loss_fn, optimizer=optimizer))
    later = later_stages(plan, optimizer, mesh, state, frozen, plan.stages[1:])
    assert [stage.start for stage in later] == ([EVERY, 2 * EVERY, 3 * EVERY] if "gradual" in preset else [])
    seen = []
    for number, batch in enumerate(batches):
        if later and later[0].start == number:
            state, frozen = open_stage(plan, later.pop(0), state, frozen)
        state, metrics = step(state, frozen, as_batch(*batch))
        seen.append(float(metrics["loss"]))
    assert tree.count(state.params) == tree.count(params)
    return seen


@pytest.mark.parametrize(
    "preset", [pytest.param(x, marks=pytest.mark.slow if "gradual" in x else ()) for x in PRESETS], ids=str
)
def test_twenty_steps_give_the_same_losses(preset, tmp_path):
    settings: dict[str, Any] = {key: x for key, x in tiny.CONFIG.items() if key not in ("model_type", "architectures")}
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    settings |= {"num_hidden_layers": LAYERS, "num_labels": 3}
    torch.manual_seed(0)
    theirs = BertForSequenceClassification(BertConfig(**settings))
    theirs.save_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(STEPS):
        # PyTorch never trains the row of pad_token_id, 0 here.
        ids = rng.integers(1, tiny.CONFIG["vocab_size"], (16, 10))
        batches.append(({"input_ids": ids, "attention_mask": np.ones_like(ids)}, ids[:, 0] % 3))
    start = jaxft.load(str(tmp_path), unroll=1)
    ours, plain = jaxft_losses(*start, batches, preset), jaxft_losses(*start, batches, "full")
    assert np.abs(np.subtract(ours, plain)).max() > 1e-2  # the preset makes a difference
    expected = torch_losses(theirs.train(), batches, preset)
    np.testing.assert_allclose(ours, expected, atol=1e-4, rtol=0)
