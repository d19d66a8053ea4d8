"""A run's model on its way to the first step, in stages whose types fix their order:

`OpenedModel` -> `ModelWithWords` -> `ModelWithAdapters` -> `PlannedModel`. Training, export and the benchmarks of random
models share it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.tree import Params
from jaxft.models.encoder.adapters import is_adapter
from jaxft.models.load_save import load, reinitialise
from jaxft.models.model import Model, dropout_sites, with_dropout_rates
from jaxft.models.vocab_resize import split_rows, with_vocabulary
from jaxft.param_plan import ParameterPlan, make_plan
from jaxft.run.adapter_targets import add_adapters, settled
from jaxft.run.compatibility import check_lengths
from jaxft.run.tokenizer import Vocabulary
from jaxft.tasks.task import Task


@dataclass(frozen=True)
class OpenedModel:
    """The model that a run starts from, with the head of its task; `params` are numpy arrays or, in all stages, shapes."""

    model: Model
    params: Params


@dataclass(frozen=True)
class _WithVocabulary(OpenedModel):
    """What the later stages know of the run's tokenizer.

    Attributes:
      model, params: of this stage.
      resized: whether the tokenizer is another than the model's own.
      notes: lines to print.
    """

    resized: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelWithWords(_WithVocabulary):
    """With a row for each word of the run's tokenizer."""


@dataclass(frozen=True)
class ModelWithAdapters(_WithVocabulary):
    """With the adapters and the dropout rates of the config, on the mesh: it has all parameters that a plan decides on."""


@dataclass(frozen=True, kw_only=True)
class PlannedModel(_WithVocabulary):
    """As it is before the first step: with the dropout rates of the plan, and drawn anew what the plan says."""

    plan: ParameterPlan


def open_model(config: Config, task: Task, hf_config: Mapping[str, Any]) -> OpenedModel:
    """The model of `model.path` with the head of a task; `hf_config` is its config.json."""
    opened = load(
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
    return OpenedModel(*opened)


def with_words(opened: OpenedModel, vocabulary: Vocabulary | None, config: Config) -> ModelWithWords:
    """The model with the words of the run's tokenizer; None keeps those that it has."""
    model, params = opened.model, opened.params
    apart = "new_tokens" in config.plan.presets()
    if vocabulary is None or vocabulary.previous is None:
        if apart:
            raise UserError("plan.preset new_tokens: there are none; give vocabulary.words, file or most_frequent")
        return ModelWithWords(model, params)
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
    return ModelWithWords(replace(model, directory=vocabulary.directory), params, resized=True, notes=(line,))


def with_adapters(worded: ModelWithWords, config: Config, mesh: jax.sharding.Mesh) -> ModelWithAdapters:
    """The model with the config's dropout rates and adapters, computed on the mesh."""
    own, model = config.model, worded.model
    rates = model.override(
        dropout=own.dropout, attention_dropout=own.attention_dropout, classifier_dropout=own.classifier_dropout
    )
    rates = replace(rates, by_keys=own.attention_dropout_kind == "keys")
    model = replace(model, rates=rates).on(mesh, config.runtime.attention)
    model, params = add_adapters(model, worded.params, config)
    return ModelWithAdapters(model, params, worded.resized, worded.notes)


def planned(adapted: ModelWithAdapters, config: Config, *, steps_per_epoch: int, total_steps: int) -> PlannedModel:
    """The model as the plan of a run of `total_steps` optimizer steps has it before the first of them."""
    model, params = adapted.model, adapted.params
    plan = make_plan(
        config.plan,
        params,
        model.encoder.config.parameter_layers,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        dropout_sites=dropout_sites(model),
    )
    again = [name for name, x in plan.settings.items() if x.init == "random" and not is_adapter(name)]
    model, params = reinitialise(with_dropout_rates(model, plan.dropout), params, again, config.seed)
    model, params = settled(model, params, plan, config.seed, resized=adapted.resized)
    return PlannedModel(model, params, adapted.resized, adapted.notes, plan=plan)
