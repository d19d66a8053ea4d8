"""From a config to a `Run`: data, model, task, plan, sampler and mesh. Writes nothing."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxft.config import Config
from jaxft.config.durations import duration_seconds, duration_steps
from jaxft.config.of_tasks import every_task
from jaxft.core import host_memory
from jaxft.core.errors import UserError
from jaxft.core.phases import TOKENISING, phase
from jaxft.data.batching.batch_sampler import BatchSampler, make_sampler
from jaxft.data.batching.task_orders import TaskOrders
from jaxft.data.reading.empty_texts import check_not_kept
from jaxft.data.reading.row_numbers import row_numbers
from jaxft.data.tokens.encode import Examples
from jaxft.models.encoder import fused_attention
from jaxft.models.encoder.config import DropoutSite
from jaxft.models.model import Model, has_dropout
from jaxft.optim import check_optimizer, check_schedules
from jaxft.parallel import sharding
from jaxft.run import record, rundir
from jaxft.run.assembly import apply_plan, assemble, check_lengths, open_model
from jaxft.run.domains import check_plan, head_widths, read_domains
from jaxft.run.epochs import EpochExamples, varies
from jaxft.run.model_setup import ModelSetup, check_given, resolve_model
from jaxft.run.nearest_words import nearest_words
from jaxft.run.several_tasks import longest_text, read_tasks
from jaxft.run.splits import read_data
from jaxft.run.task_sampling import order_seed, task_orders
from jaxft.run.task_scores import TaskScores
from jaxft.run.teachers import Teacher, check_matches, load_teachers, matches_of, with_chosen_teachers, with_own_texts
from jaxft.step import distillation
from jaxft.step.domain_head import domain_widths
from jaxft.step.matches import kernels_of
from jaxft.step.multi_step import Calendar
from jaxft.step.unused_embeddings import used_words
from jaxft.tasks.several import SeveralTasks
from jaxft.tasks.several_splits import SeveralSplits
from jaxft.tasks.task import Split, Task

MOST_READ_IN_ADVANCE = 500_000  # augmented examples, for the words that occur in them
FROZEN_FEATURES = "frozen_prefix"  # token column of a batch: the outputs of frozen layers (`training.frozen_features`)


@dataclass(frozen=True, kw_only=True)
class Run(ModelSetup):
    """Everything that is fixed before the first step.

    Attributes:
      config, task, plan: the checked config, the task with its labels, the parameter plan.
      model, params: the model, and its parameters before the first step, numpy arrays.
      teachers: of a distillation, in the order of `distill.teacher`.
      tokenizer: transformers' tokenizer.
      data: the splits by name: train, and perhaps validation and test.
      mesh: the devices.
      sampler: of the training batches; if examples differ between epochs, those of epoch 0.
      epochs: makes the examples of an epoch if they differ between epochs.
      task_scores: of several tasks that are drawn by their scores.
      total_steps: optimizer steps.
      notes: lines for the log.
      own_tokenizer: directory of the tokenizer if it is not that of `model.path`.
      resumed: whether `recorded_words`, the words whose embeddings are trained, are known.
    """

    teachers: tuple[Teacher, ...] = ()
    tokenizer: Any
    data: Mapping[str, Split]
    sampler: BatchSampler
    epochs: EpochExamples | None = None
    task_scores: TaskScores | None = None
    notes: tuple[str, ...] = ()
    own_tokenizer: Path | None = None
    resumed: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch."""
        return self.sampler.steps_per_epoch

    @property
    def calendar(self) -> Calendar:
        """The steps after which the run evaluates, saves, and begins an epoch or a stage."""
        epoch, config = self.steps_per_epoch, self.config
        evaluate = duration_steps(config.eval.every, epoch, "eval.every") if "validation" in self.data else None
        timed = duration_seconds(config.checkpoint.every)  # then no step is known in advance (`training.save_timer`)
        save = duration_steps("end" if timed else config.checkpoint.every, epoch, "checkpoint.every")
        return Calendar(self.total_steps, epoch, evaluate, save, tuple(self.plan.stages[1:]))

    @property
    def prototype(self) -> Examples:
        """Examples with the columns of the training batches, for their shapes and types."""
        return self.epochs.prototype if self.epochs else self.data["train"].examples

    @property
    def changes_texts(self) -> bool:
        """Whether words are replaced by others in steps or epochs."""
        return self.task.masks_inputs or bool(self.config.augment.steps)

    @cached_property
    def used_words(self) -> np.ndarray | None:
        """As in `ModelSetup`; a new run computes them from its training data, a resumed one keeps those it recorded."""
        if self.resumed:
            return self.recorded_words
        others = [self.epochs.texts] if self.epochs and self.epochs.texts is not None else []
        parts: Iterable[Examples] = [self.data["train"].examples, *others]
        if self.epochs and self.config.augment.steps:
            count = -(-self.total_steps // self.steps_per_epoch)
            # On an accelerator the table costs little, and its thread has less time for an epoch.
            if self.mesh.devices.flat[0].platform != "cpu" or count * len(self.sampler.lengths) > MOST_READ_IN_ADVANCE:
                return None
            parts = self.epochs.until(count)
        return None if self.task.masks_inputs else used_words(self.config, self.model, self.plan, parts)

    @property
    def metric(self) -> str:
        """The metric that chooses the best model."""
        return self.config.eval.metric or self.task.metric

    def texts(self) -> dict[str, str]:
        """The texts of run.json and, if the run sets rows aside, of validation_rows.txt, by file name."""
        task = self.task
        labels = {name: x.labels for name, x in task.tasks.items()} if isinstance(task, SeveralTasks) else task.labels
        own = record.Record(labels, task.config_fields, task.tuned, self.steps_per_epoch, self.total_steps, self.used_words)
        widths = {name: list(x.shape) for name, x in kernels_of(self.params).items()}
        texts = {rundir.RECORD: replace(own, projections=widths, domain_head=domain_widths(self.params)).text()}
        for name, own in every_task(self.config).items():
            if own.data.validation_share:
                validation = self.data["validation"]
                rows = (validation.parts[name] if isinstance(validation, SeveralSplits) else validation).rows
                texts[rundir.validation_rows_file(name)] = "".join(f"{n}\n" for n in row_numbers(rows))
        return texts


def make_run(config: Config, devices: list[Any] | None = None) -> Run:
    """Read the data, load the model, and choose the parameter plan, batch shapes and number of steps.

    `devices` are those of this machine by default; descriptions of other devices allow to compile for them.

    Raises:
      UserError: for anything that is missing, malformed or does not fit together.
    """
    check_given(config)
    check_not_kept(config.data)
    check_optimizer(config.optim)
    if config.distill.teacher:
        distillation.check_options(config.distill, config.train.micro_batches)
    directory, hf_config = resolve_model(config)
    known = record.recorded(config)
    read = read_tasks(config, directory, hf_config, known) if config.tasks else read_data(config, directory, hf_config)
    task, data, tokenizer = read.task, read.splits, read.vocabulary.tokenizer
    host_memory.release_after_reading()
    mesh = sharding.make_mesh(config.mesh, devices)
    assembled = assemble(*open_model(config, task, hf_config), read.vocabulary, config, mesh)
    check_lengths(assembled.model, tokenizer, longest_text(config))
    check_types(assembled.model, data)
    notes, teachers = read.notes + assembled.notes, ()
    if config.distill.teacher:
        found, about = load_teachers(config, assembled.model, task, tokenizer)
        with phase(TOKENISING):
            teachers = tuple(with_own_texts(replace(x, model=x.model.on(mesh)), config, task, data["train"]) for x in found)
        notes += tuple(about)
        data = {**data, "train": with_chosen_teachers(data["train"], teachers, config)}
    domains = None
    if config.domains.used:
        domains = read_domains(config, task, data["train"], read.vocabulary)
        data, notes = {**data, "train": domains.training}, (*notes, domains.line())
    training, epochs = data["train"].examples, None
    if varies(config):
        nearest = partial(nearest_words, assembled.params, tokenizer, training)
        layers, texts = assembled.model.encoder.config.num_layers, domains.texts if domains else None
        epochs = EpochExamples(config, task, data["train"], read.vocabulary, nearest, layers, texts)
    steps_per_epoch = -(-len(training) // config.train.batch_size)
    total = config.train.max_steps or max(1, int(np.ceil(config.train.epochs * steps_per_epoch - 1e-9)))
    if total >= sys.maxsize:
        raise UserError(
            f"the run would have {total:.3g} steps: more than can be counted; lower train.epochs or train.max_steps"
        )
    count, orders, scores = -(-total // steps_per_epoch), None, None
    if config.tasks:
        orders, scores = task_orders(config, data, count)
    sampler = train_sampler(training, config, mesh, epochs=count, varying=epochs, orders=orders)
    matches = matches_of(config, assembled.model, teachers)
    model, params, plan = apply_plan(
        assembled,
        config,
        steps_per_epoch=steps_per_epoch,
        total_steps=total,
        projections=matches.projections if matches else None,
        domain_head=head_widths(config, assembled.model, domains) if domains else (),
    )
    check_schedules(config.optim, plan)
    notes += check_matches(config, plan)
    if domains:
        check_plan(plan)
    check_r_drop(config, model, task)
    notes += check_attention(model, sampler, drops=True)
    if config.runtime.attention not in ("auto", "plain"):  # those are always possible, and making samplers takes time
        for name, split in data.items():
            if name != "train":
                check_attention(model, eval_sampler(split.examples, config, mesh), drops=False)
    run = Run(
        config=config,
        model=model,
        params=params,
        teachers=teachers,
        tokenizer=tokenizer,
        task=task,
        data=data,
        mesh=mesh,
        plan=plan,
        sampler=sampler,
        epochs=epochs,
        task_scores=scores,
        total_steps=total,
        notes=notes,
        own_tokenizer=read.vocabulary.directory if assembled.resized else None,
        recorded_words=known.words if known else None,
        resumed=known is not None,
    )
    run.calendar.check(config.runtime.steps_per_execution)
    return run


def train_sampler(
    examples: Examples,
    config: Config,
    mesh: jax.sharding.Mesh,
    *,
    epochs: int = 1,
    varying: EpochExamples | None = None,
    orders: TaskOrders | None = None,
) -> BatchSampler:
    """The sampler of the training batches of a run of `epochs` epochs.

    `varying` makes the examples of epochs that have their own, `orders` the orders of several tasks.
    """
    own: dict[str, Any] = {"batch_size": config.train.batch_size}
    if orders:
        # Of epochs that evaluations will decide, nobody knows how many rows they need.
        longest = int(examples.lengths.max()) if orders.shares.qualities else 0
        own = {"batch_size": orders.batch_size, "longest": longest, "orders": orders}
    if varying and varying.first:
        examples = varying.first[0]
        own = {"batch_size": varying.batch_size, "longest": varying.longest, "parts": varying.parts}
    return _sampler(
        examples,
        config,
        mesh,
        epochs=epochs,
        seed=order_seed(config),
        shapes=config.data.shapes,
        micro_batches=config.train.micro_batches,
        **own,
    )


def eval_sampler(examples: Examples, config: Config, mesh: jax.sharding.Mesh) -> BatchSampler:
    """The sampler of evaluation batches of equally many examples, `eval.batch_size` at most.

    Packed batches are mixed by length, so that one shape fits them all; the others go longest first.
    """
    packed = config.data.layout == "pack"
    steps = -(-len(examples) // config.eval.batch_size)
    return _sampler(
        examples,
        config,
        mesh,
        batch_size=-(-len(examples) // steps),
        seed=0 if packed else None,
        shapes=1 if packed else config.data.shapes,
    )


def _sampler(examples: Examples, config: Config, mesh: jax.sharding.Mesh, **options: Any) -> BatchSampler:
    return make_sampler(
        examples.lengths,
        max_length=longest_text(config) * examples.group,
        layout=config.data.layout,
        shards=mesh.size,
        lengthen=partial(fused_attention.padded_length, platform=mesh.devices.flat[0].platform),
        **options,
    )


def check_types(model: Model, data: Mapping[str, Split]) -> None:
    """Refuse token types that the model has no embedding for; a model without token types ignores them."""
    types = model.encoder.config.type_vocab_size
    largest = max((int(x.examples.tokens["token_type_ids"].max()) for x in data.values()), default=0)
    if types and largest >= types:
        raise UserError(
            f"the tokenizer gives token types up to {largest} but the model has {types}: it was made for another model"
        )


def check_r_drop(config: Config, model: Model, task: Task) -> None:
    """Refuse R-Drop whose two passes would be the same, at twice the cost."""
    own = config.regularization
    differ = own.neftune or task.masks_inputs or config.plan.lora.dropout
    if own.r_drop and not (differ or has_dropout(model)):
        raise UserError(
            f"regularization.r_drop is {own.r_drop:g}, but no dropout is left that makes its two passes differ: give "
            "model.dropout, or r_drop 0"
        )


def check_attention(model: Model, sampler: BatchSampler, *, drops: bool) -> tuple[str, ...]:
    """Refuse an attention kernel that the config forces but the sampler's batches cannot use, with dropout if `drops`.

    Returns a line for the log for each reason to use plain attention instead of the device's own kernel.
    """
    c, policy = model.encoder.config, model.policy
    layers = map(model.rates.of_layer, range(c.parameter_layers))
    drops = drops and any(layer.of(DropoutSite.ATTENTION) for layer in layers) and not model.rates.by_keys
    reasons = set()
    for shape in sampler.shapes:
        call = fused_attention.Call(
            dtype=policy.dtype,
            length=shape.length,
            head_size=c.hidden_size // c.num_heads,
            plain=bool(c.distance_bias or c.relative or drops),
            window=bool(c.rotary),
            single=shape.slots == 1,
        )
        fused_attention.choose(policy, call)
        reasons.add(fused_attention.why_plain(policy, call))
    kernel = fused_attention.BY_PLATFORM.get(policy.platform)
    return tuple(f"attention: plain, not {kernel}: {reason}" for reason in sorted(filter(None, reasons)))
