"""From a loaded model to the model before the first step; training, export and the benchmarks of random models share it.

`assemble` adds what the config adds to a model, and `apply_plan` decides how the parameters of the result are trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.tree import Params
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.models.encoder.adapters import is_adapter
from jaxft.models.load_save import load, reinitialise
from jaxft.models.model import Model, dropout_sites, with_dropout_rates
from jaxft.models.several_heads import with_all_heads
from jaxft.models.student import with_embeddings
from jaxft.models.vocab_resize import split_rows, with_vocabulary
from jaxft.param_plan import ParameterPlan, make_plan
from jaxft.run.adapter_targets import add_adapters, complete_adapters
from jaxft.run.run_tokenizer import Vocabulary
from jaxft.step.domain_head import add_domain_head, domain_rules
from jaxft.step.matches import add_projections, projection_rules
from jaxft.step.training_only import is_training_only
from jaxft.tasks.several import SeveralTasks
from jaxft.tasks.task import Task


@dataclass(frozen=True)
class AssembledModel:
    """A model with all parameters that a parameter plan decides on."""

    model: Model
    params: Params  # numpy arrays or shapes
    resized: bool  # whether the run's tokenizer is not the model's own
    notes: tuple[str, ...]  # lines for the log


def open_model(config: Config, task: Task, hf_config: Mapping[str, Any]) -> tuple[Model, Params]:
    """Load the model of `model.path`, whose config.json is `hf_config`, with the head of a task, or of several."""
    if isinstance(task, SeveralTasks):
        return with_all_heads((name, *open_model(config, own, hf_config)) for name, own in task.tasks.items())
    own = config.model
    model, params = load(
        str(own.path),
        task=task.kind,
        labels=task.labels,
        renamed=task.accepts_head(hf_config),
        revision=own.revision,
        num_layers=own.num_layers,
        layers=own.layers,
        config=own.config,
        dtype=config.train.dtype,
        unroll=config.runtime.unroll,
        seed=config.seed,
        from_scratch=own.from_scratch,
    )
    if own.embeddings is None:
        return model, params
    other, theirs = load(own.embeddings)
    where = f"model.embeddings {own.embeddings}"
    if len({frozenset(load_tokenizer(x.directory).get_vocab().items()) for x in (model, other) if x.directory}) > 1:
        raise UserError(f"{where} has another vocabulary than model.path {own.path}: token ids would mean other words")
    return with_embeddings(model, params, other, theirs, where)


def assemble(
    model: Model, params: Params, vocabulary: Vocabulary | None, config: Config, mesh: jax.sharding.Mesh
) -> AssembledModel:
    """Add the embeddings of new words, the config's dropout rates and adapters to a loaded model, and set its mesh.

    Without a vocabulary the tokenizer is the model's own.
    """
    notes: tuple[str, ...] = ()
    if vocabulary is not None and vocabulary.previous is not None:
        model, params, notes = _with_vocabulary(model, params, vocabulary, config)
    elif "new_tokens" in config.plan.presets():
        raise UserError("plan.preset new_tokens: there are none; give vocabulary.words, file or most_frequent")
    own = config.model
    rates = model.override(
        dropout=own.dropout, attention_dropout=own.attention_dropout, classifier_dropout=own.classifier_dropout
    )
    rates = replace(rates, by_keys=own.attention_dropout_kind == "keys")
    model = replace(model, rates=rates).on(
        mesh, config.runtime.attention, checkpoint_layers=config.runtime.gradient_checkpointing
    )
    model, params = add_adapters(model, params, config)
    return AssembledModel(model, params, bool(notes), notes)


def apply_plan(
    assembled: AssembledModel,
    config: Config,
    *,
    steps_per_epoch: int,
    total_steps: int,
    projections: Mapping[str, Sequence[int]] | None = None,
    domain_head: Sequence[int] = (),
) -> tuple[Model, Params, ParameterPlan]:
    """(model, parameters, plan) before the first step, with the plan's dropout rates and newly drawn parameters.

    The parameters include the `projections` of matches with a teacher (see `step.matches`), whose widths these are, and the
    domain classifier with the widths `domain_head` (see `step.domain_head`).
    """
    model, widths = assembled.model, projections or {}
    params = add_projections(assembled.params, widths, config.seed)
    params = add_domain_head(params, domain_head, config.seed)
    plan = make_plan(
        config.plan,
        params,
        model.encoder.config.parameter_layers,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        dropout_sites=dropout_sites(model),
        own=[*projection_rules(config.distill, config.optim, widths), *domain_rules(domain_head)],
    )
    drawn = [
        name
        for name, x in plan.settings.items()
        if x.init == "random" and not is_adapter(name) and not is_training_only(name)
    ]
    model, params = reinitialise(with_dropout_rates(model, plan.dropout), params, drawn, config.seed)
    return *complete_adapters(model, params, plan, config.seed, resized=assembled.resized), plan


def check_lengths(model: Model, tokenizer: Any, max_length: int, name: str = "the model") -> None:
    """Refuse sequences that are longer than the model's positions, and token ids beyond its vocabulary."""
    positions, vocabulary = model.encoder.config.usable_positions, model.encoder.config.vocab_size
    if positions is not None and max_length > positions:
        raise UserError(f"data.max_length is {max_length} but {name} has {positions} positions")
    if len(tokenizer) > vocabulary:
        raise UserError(f"the tokenizer has {len(tokenizer)} tokens but the vocabulary of {name} has {vocabulary}")


def _with_vocabulary(
    model: Model, params: Params, vocabulary: Vocabulary, config: Config
) -> tuple[Model, Params, tuple[str, ...]]:
    """(model, parameters, lines for the log) with an embedding for each token of a tokenizer that is not the model's own."""
    check_lengths(model, vocabulary.previous, config.data.max_length)
    sources = vocabulary.sources()
    how = "random" if config.model.from_scratch else config.vocabulary.initialise
    model, params = with_vocabulary(model, params, sources, how, config.seed)
    if "new_tokens" in config.plan.presets():
        if not sources.appended:
            raise UserError(
                "plan.preset new_tokens: the new words do not stand behind the old ones, because vocabulary.tokenizer "
                "replaces them: train all words"
            )
        model, params = split_rows(model, params, sources.appended)
    line = f"vocabulary: {len(sources.old_ids) - sources.new:,} words keep their rows, {sources.new:,} are new ({how})"
    return replace(model, directory=vocabulary.directory), params, (line,)
