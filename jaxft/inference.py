"""A fine-tuned model opened for evaluation and prediction."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxft import rundir, sharding
from jaxft.compiled import abstract_batches
from jaxft.config import Config
from jaxft.data.encode import Examples, load_tokenizer
from jaxft.errors import UserError
from jaxft.evaluation import feed, make_evaluator
from jaxft.models.build import load
from jaxft.models.model import MAIN, Model
from jaxft.setup import check_lengths, eval_planner, labelled, make_loss
from jaxft.tasks import text_classification as classification
from jaxft.tasks.text_classification import KIND, TextClassification
from jaxft.tree import Params


@dataclass(frozen=True)
class Opened:
    """A model, its tokenizer and its task on a mesh."""

    config: Config
    model: Model
    params: Params
    tokenizer: Any
    task: TextClassification
    mesh: jax.sharding.Mesh

    @property
    def directory(self) -> Path:
        """The model directory."""
        assert self.model.directory is not None
        return self.model.directory


def base_config(path: str) -> Config:
    """The config of RUN_OR_MODEL_DIR: the run's own, or the defaults for a model directory."""
    return rundir.read_config(Path(path)) if rundir.is_run(Path(path)) else Config()


def open_model(path: str, config: Config) -> Opened:
    """Open RUN_OR_MODEL_DIR.

    Raises:
      UserError: when it is no fine-tuned classifier.
    """
    model, params = load(
        rundir.model_directory(path),
        revision=config.model.revision,
        dtype=config.train.dtype,
        unroll=config.runtime.unroll,
    )
    if (kind := model.heads[MAIN].kind) != KIND:
        raise UserError(f"{path}: is a {kind} model without a classifier; fine-tune it first with python -m jaxft.train")
    assert model.directory is not None
    tokenizer = load_tokenizer(model.directory)
    check_lengths(model, tokenizer, config.data.max_length)
    mesh = sharding.make_mesh(replace(config.mesh, data=-1, fsdp=1))
    params = sharding.place(params, sharding.param_shardings(mesh, params))
    return Opened(config, model, params, tokenizer, TextClassification(tuple(model.labels)), mesh)


def evaluate(opened: Opened, split: str, say: Callable[[str], None]) -> dict[str, float]:
    """Metrics of a labelled split."""
    config, labels = opened.config, list(opened.task.labels)
    rows = classification.read(config.data, split)
    origin = str(getattr(config.data, split))
    values = classification.label_values(rows, config.data.label, origin)
    examples = labelled(rows, values, opened.tokenizer, opened.directory, config, labels, origin)
    planner = eval_planner(examples.lengths, config, opened.mesh)
    loss = make_loss(opened.model, opened.task)
    return make_evaluator(opened.task, loss, examples, planner, opened.params, {}, opened.mesh, say).scores(
        opened.params, {}
    )


def predict(opened: Opened, examples: Examples) -> np.ndarray:
    """Logits [N, labels] float32, in the order of the examples."""
    planner = eval_planner(examples.lengths, opened.config, opened.mesh)
    step = jax.jit(partial(_logits, model=opened.model), out_shardings=sharding.replicated(opened.mesh))
    place = sharding.batch_sharding(opened.mesh)
    compiled = {
        shape: step.lower(opened.params, batch).compile()
        for shape, batch in abstract_batches(planner, examples, place).items()
    }
    logits = np.zeros((len(examples), len(opened.task.labels)), np.float32)
    plan = planner.plan_epoch(0)
    for number, batch in enumerate(feed(plan, examples, range(planner.steps_per_epoch), opened.mesh)):
        example, values = jax.tree.map(np.asarray, compiled[plan.shape(number)](opened.params, batch))
        logits[example[example >= 0]] = values[example >= 0]
    return logits


def _logits(params: Params, batch: dict[str, jax.Array], *, model: Model) -> tuple[jax.Array, jax.Array]:
    micro = {name: x[0] for name, x in batch.items()}
    return micro["example"], model.apply(params, micro)["logits"]
