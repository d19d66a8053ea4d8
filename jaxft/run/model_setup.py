"""From a config to the model that a run trains, without its data."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxft.config import Config
from jaxft.config.of_tasks import every_task, naming_task
from jaxft.core.errors import UserError, about
from jaxft.core.model_source import resolve
from jaxft.core.tree import Params
from jaxft.models.model import Model, make_model
from jaxft.models.peft.read_adapter import is_adapter_directory
from jaxft.models.student import with_changes
from jaxft.models.weights.tensor_files import read_model_config
from jaxft.parallel import sharding
from jaxft.param_plan import ParameterPlan
from jaxft.run import rundir
from jaxft.run.assembly import apply_plan, assemble, open_model
from jaxft.run.record import Record
from jaxft.run.restored_task import restored
from jaxft.run.run_tokenizer import open_vocabulary
from jaxft.step.regularization import Regularization
from jaxft.tasks import check_smoothing, task_class
from jaxft.tasks.task import Task


def check_given(config: Config) -> None:
    """Raise a UserError unless the config names a model and training data."""
    if config.model.path is None:
        raise UserError("model.path is not set: give a hub id, a directory or package:NAME/SUBDIR")
    for name, own in every_task(config).items():
        with naming_task(name):
            if own.data.train is None:
                raise UserError("data.train is not set: give a csv, tsv, json, jsonl, parquet, conll or txt file")


@dataclass(frozen=True, kw_only=True)
class ModelSetup:
    """A run without its data: everything that its checkpoints depend on."""

    config: Config
    model: Model
    params: Params  # before the first step, on the host
    task: Task
    mesh: jax.sharding.Mesh
    plan: ParameterPlan
    total_steps: int
    recorded_words: np.ndarray | None = None  # `used_words` from the run's record; a run with its data computes them

    @cached_property
    def used_words(self) -> np.ndarray | None:
        """Ids of the words whose embeddings are trained; None for all (see `step.unused_embeddings`)."""
        return self.recorded_words

    @property
    def regularization(self) -> Regularization:
        """The regularisation of parameters in a step."""
        return Regularization(self.config.regularization, self.plan)


def make_model_setup(config: Config, record: Record) -> ModelSetup:
    """Set up a run that has begun from its record: its data may be gone, or have changed.

    Raises:
      UserError: when the model that it started from is missing.
    """
    directory, hf_config = resolve_model(config)
    task = restored(config, hf_config, record)
    vocabulary = open_vocabulary(config.vocabulary, directory, rundir.recorded_tokenizer(config), lambda: ())
    mesh = sharding.make_mesh(config.mesh)
    assembled = assemble(*open_model(config, task, hf_config), vocabulary, config, mesh)
    model, params, plan = apply_plan(
        assembled,
        config,
        steps_per_epoch=record.steps_per_epoch,
        total_steps=record.total_steps,
        projections=record.projections,
        domain_head=record.domain_head,
    )
    return ModelSetup(
        config=config,
        model=model,
        params=params,
        task=task,
        mesh=mesh,
        plan=plan,
        total_steps=record.total_steps,
        recorded_words=record.words,
    )


def resolve_model(config: Config) -> tuple[Path, dict[str, Any]]:
    """(directory of the model that a run starts from, its config.json), refused early if the model cannot be trained."""
    with about("model.path"):
        directory = resolve(str(config.model.path), config.model.revision)
    if is_adapter_directory(directory):
        raise UserError(
            f"model.path {config.model.path}: is an adapter; a run starts from a whole model, such as "
            f"python -m jaxft.export {config.model.path} --merge --output DIR writes"
        )
    check_smoothing(config)
    where = str(directory / "config.json")
    hf_config = with_changes(read_model_config(directory), config.model.config, where)
    for name, own in every_task(config).items():
        with naming_task(name):
            make_model(hf_config, task_class(own).kind, where)  # before the data is read
    return directory, hf_config
