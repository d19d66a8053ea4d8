"""From a config to the model that a run trains, without its data."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.model_source import resolve
from jaxft.core.tree import Params
from jaxft.models.model import Model, make_model
from jaxft.models.peft.read_adapter import is_adapter
from jaxft.models.weights.tensor_files import read_model_config
from jaxft.parallel import sharding
from jaxft.param_plan import ParameterPlan
from jaxft.run import rundir
from jaxft.run.assembly import open_model, planned, with_adapters, with_words
from jaxft.run.record import Record
from jaxft.run.tokenizer import open_vocabulary
from jaxft.step.regularization import Regularization
from jaxft.tasks import task_class
from jaxft.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class ModelSetup:
    """What a checkpoint of a run belongs to: all but its data.

    Attributes:
      config: of the run.
      model, params: as they are before the first step.
      task: with its labels.
      mesh, plan: where the parameters are, and what becomes of them.
      total_steps: optimizer steps.
      recorded_words: `used_words` as the run wrote them down; a run with its data finds them there.
    """

    config: Config
    model: Model
    params: Params
    task: Task
    mesh: jax.sharding.Mesh
    plan: ParameterPlan
    total_steps: int
    recorded_words: np.ndarray | None = None

    @cached_property
    def used_words(self) -> np.ndarray | None:
        """Ids of the words whose rows are trained, where the other rows of a trained table need not be."""
        return self.recorded_words

    @property
    def regularization(self) -> Regularization:
        """What a step does beside the loss."""
        return Regularization(self.config.regularization, self.plan)


def make_model_setup(config: Config, record: Record) -> ModelSetup:
    """A run that has begun, from what it has recorded: without its data, which may be gone or be another by now.

    Raises:
      UserError: when the model that it started from is missing.
    """
    directory, hf_config = start(config)
    fields = dict(record.fields)
    if record.labels is not None:
        fields["id2label"] = {str(i): name for i, name in enumerate(record.labels)}
    task = task_class(config).restore(config, {**hf_config, **fields})
    vocabulary = open_vocabulary(config.vocabulary, directory, rundir.recorded_tokenizer(config), lambda: ())
    mesh = sharding.make_mesh(config.mesh)
    adapted = with_adapters(with_words(open_model(config, task, hf_config), vocabulary, config), config, mesh)
    made = planned(adapted, config, steps_per_epoch=record.steps_per_epoch, total_steps=record.total_steps)
    return ModelSetup(
        config=config,
        model=made.model,
        params=made.params,
        task=task,
        mesh=mesh,
        plan=made.plan,
        total_steps=record.total_steps,
        recorded_words=record.words,
    )


def start(config: Config) -> tuple[Path, dict[str, Any]]:
    """(directory of the model that a run starts from, its config.json)."""
    directory = resolve(str(config.model.path), config.model.revision)
    if is_adapter(directory):
        raise UserError(
            f"model.path {config.model.path}: is an adapter; a run starts from a whole model, such as "
            f"python -m jaxft.export {config.model.path} --merge --output DIR writes"
        )
    hf_config, where = read_model_config(directory), str(directory / "config.json")
    make_model(hf_config, task_class(config).kind, where)  # a bad config.json is refused before the long reading
    return directory, hf_config
