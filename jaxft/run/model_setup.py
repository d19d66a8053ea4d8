"""From a config to the model that a run trains: opened, with its words, its adapters and its plan, before any data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.model_source import resolve
from jaxft.core.tree import Params
from jaxft.models.dropout_sites import dropout_sites, with_dropout_rates
from jaxft.models.encoder.adapters import is_adapter as is_adapter_name
from jaxft.models.load_save import load, reinitialise
from jaxft.models.model import Model, make_model
from jaxft.models.peft.read_adapter import is_adapter
from jaxft.models.vocab_resize import split_rows, with_vocabulary
from jaxft.models.weights.tensor_files import read_model_config
from jaxft.parallel import sharding
from jaxft.param_plan import ParameterPlan, make_plan
from jaxft.run import rundir
from jaxft.run.adapter_targets import add_adapters, settled
from jaxft.run.compatibility import check_lengths
from jaxft.run.record import Record
from jaxft.run.tokenizer import Vocabulary, open_vocabulary
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
    model, params, _ = open_model(config, task, vocabulary, hf_config, mesh)
    plan = plan_of(config, model, params, record.steps_per_epoch, record.total_steps)
    model, params = settle(config, model, params, plan, resized=vocabulary.previous is not None)
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


def open_model(
    config: Config, task: Task, vocabulary: Vocabulary, hf_config: Mapping[str, Any], mesh: jax.sharding.Mesh
) -> tuple[Model, Params, tuple[str, ...]]:
    """The model of a run with its head, its words and its adapters, and lines for people."""
    model, params = load(
        str(config.model.path),
        task=task.kind,
        labels=task.labels,
        renamed=task.accepts_head(hf_config),
        revision=config.model.revision,
        num_layers=config.model.num_layers,
        dtype=config.train.dtype,
        unroll=config.runtime.unroll,
        seed=config.seed,
        from_scratch=config.model.from_scratch,
    )
    model, params, notes = _with_words(model, params, vocabulary, config)
    model, params = add_adapters(settle_model(model, config, mesh), params, config)
    return model, params, notes


def settle(config: Config, model: Model, params: Params, plan: ParameterPlan, *, resized: bool) -> tuple[Model, Params]:
    """The model as the plan has it: its dropout, what is drawn anew, what of it is saved with an adapter."""
    again = [name for name, x in plan.settings.items() if x.init == "random" and not is_adapter_name(name)]
    model, params = reinitialise(with_dropout_rates(model, plan.dropout), params, again, config.seed)
    return settled(model, params, plan, config.seed, resized=resized)


def settle_model(model: Model, config: Config, mesh: jax.sharding.Mesh) -> Model:
    """The model with the config's dropout, computed on the mesh."""
    own = config.model
    rates = model.override(
        dropout=own.dropout, attention_dropout=own.attention_dropout, classifier_dropout=own.classifier_dropout
    )
    rates = replace(rates, by_keys=own.attention_dropout_kind == "keys")
    return replace(model, rates=rates).on(mesh, config.runtime.attention)


def plan_of(config: Config, model: Model, params: Params, steps_per_epoch: int, total_steps: int) -> ParameterPlan:
    """The parameter plan of a run of so many steps."""
    return make_plan(
        config.plan,
        params,
        model.encoder.config.parameter_layers,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        dropout_sites=dropout_sites(model),
    )


def _with_words(
    model: Model, params: Params, vocabulary: Vocabulary, config: Config
) -> tuple[Model, Params, tuple[str, ...]]:
    """The model with the words of the run's tokenizer, and a line about them."""
    apart = "new_tokens" in config.plan.presets()
    if vocabulary.previous is None:
        if apart:
            raise UserError("plan.preset new_tokens: there are none; give vocabulary.words, file or most_frequent")
        return model, params, ()
    check_lengths(model, vocabulary.previous, config.data.max_length)
    sources = vocabulary.sources()
    how = "random" if config.model.from_scratch else config.vocabulary.initialise
    model, params = with_vocabulary(model, params, sources, how, config.seed)
    if apart:
        if not sources.appended:
            raise UserError(
                "plan.preset new_tokens: the new words do not stand behind the old ones, because vocabulary.tokenizer "
                "replaces them: train all words"
            )
        model, params = split_rows(model, params, sources.appended)
    line = f"vocabulary: {len(sources.old_ids) - sources.new:,} words keep their rows, {sources.new:,} are new ({how})"
    return replace(model, directory=vocabulary.directory), params, (line,)
