"""From a config to everything a run needs: data, model, task, plan, samplers, mesh. Writes nothing."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxft.config import Config
from jaxft.config.durations import duration_steps
from jaxft.core.errors import UserError
from jaxft.core.tree import Params
from jaxft.data.batching.batch_sampler import BatchSampler, make_sampler
from jaxft.data.reading.empty_texts import check_not_kept
from jaxft.data.reading.row_numbers import row_numbers
from jaxft.data.tokens.encode import Examples
from jaxft.models.encoder import fused_attention
from jaxft.models.model import Model
from jaxft.optim import check_optimizer, check_schedules
from jaxft.parallel import sharding
from jaxft.run import rundir
from jaxft.run.assembly import open_model, planned, with_adapters, with_words
from jaxft.run.compatibility import check_attention, check_lengths, check_types
from jaxft.run.model_setup import ModelSetup, start
from jaxft.run.record import Record
from jaxft.run.splits import read_data
from jaxft.step import distillation
from jaxft.step.multi_step import Calendar
from jaxft.step.unused_embeddings import used_words
from jaxft.tasks.task import Split

PREFIX = "frozen_prefix"  # the token column of a batch with what the lowest layers give (see `prefix`)


@dataclass(frozen=True, kw_only=True)
class Run(ModelSetup):
    """Everything that is fixed before the first step; `own_tokenizer` is there when it is not that of `model.path`."""

    teacher: tuple[Model, Params] | None
    tokenizer: Any
    data: Mapping[str, Split]
    sampler: BatchSampler
    notes: tuple[str, ...] = ()  # lines for people
    own_tokenizer: Path | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps an epoch."""
        return self.sampler.steps_per_epoch

    @property
    def calendar(self) -> Calendar:
        """When the run does something else than train."""
        epoch, config = self.steps_per_epoch, self.config
        evaluate = duration_steps(config.eval.every, epoch, "eval.every") if "validation" in self.data else None
        save = duration_steps(config.checkpoint.every, epoch, "checkpoint.every")
        return Calendar(self.total_steps, epoch, evaluate, save, tuple(self.plan.stages[1:]))

    @cached_property
    def used_words(self) -> np.ndarray | None:
        """As `Frame` has them, found in the training data."""
        changed = self.task.masks_inputs
        return used_words(self.config, self.model, self.plan, self.data["train"].examples, changed=changed)

    @property
    def metric(self) -> str:
        """The metric that chooses the best model."""
        return self.config.eval.metric or self.task.metric

    def texts(self) -> dict[str, str]:
        """Files of the run directory by name: what the run has learnt of its data, and which rows it sets aside."""
        task, held = self.task, self.config.data.validation_share
        own = Record(task.labels, task.config_fields, task.tuned, self.steps_per_epoch, self.total_steps, self.used_words)
        rows = {rundir.VALIDATION_ROWS: row_numbers(self.data["validation"].rows)} if held else {}
        return {rundir.RECORD: own.text()} | {name: "".join(f"{n}\n" for n in x) for name, x in rows.items()}


def make_run(config: Config, devices: list[Any] | None = None) -> Run:
    """Read the data, open the model, and decide plan, shapes and number of steps.

    Args:
      config: of the run.
      devices: to run on, or descriptions of devices to compile for; None takes those of this machine.

    Raises:
      UserError: for anything that is missing, malformed or does not fit together.
    """
    if config.model.path is None:
        raise UserError("model.path is not set: give a hub id, a directory or package:NAME/SUBDIR")
    if config.data.train is None:
        raise UserError("data.train is not set: give a csv, tsv, json, jsonl, parquet or txt file")
    check_not_kept(config.data)
    check_optimizer(config.optim)
    directory, hf_config = start(config)
    read = read_data(config, directory, hf_config)
    task, data, tokenizer = read.task, read.splits, read.vocabulary.tokenizer
    mesh = sharding.make_mesh(config.mesh, devices)
    adapted = with_adapters(with_words(open_model(config, task, hf_config), read.vocabulary, config), config, mesh)
    check_lengths(adapted.model, tokenizer, config.data.max_length)
    check_types(adapted.model, data)
    teacher = None
    if config.distill.teacher:
        teacher = distillation.load_teacher(config.distill, adapted.model, tokenizer, dtype=config.train.dtype)
        teacher = (teacher[0].on(mesh), teacher[1])
        check_lengths(teacher[0], tokenizer, config.data.max_length, f"distill.teacher {config.distill.teacher}")
    training = data["train"].examples
    steps_per_epoch = -(-len(training) // config.train.batch_size)
    total = config.train.max_steps or max(1, int(np.ceil(config.train.epochs * steps_per_epoch - 1e-9)))
    if total >= sys.maxsize:
        raise UserError(
            f"the run would have {total:.3g} steps: more than can be counted; lower train.epochs or train.max_steps"
        )
    sampler = train_sampler(training, config, mesh, epochs=-(-total // steps_per_epoch))
    made = planned(adapted, config, steps_per_epoch=steps_per_epoch, total_steps=total)
    check_schedules(config.optim, made.plan)
    notes = read.notes + made.notes + check_attention(made.model, sampler, drops=True)
    if config.runtime.attention not in ("auto", "plain"):  # those can do everything, and planning takes time
        for split in [x for name, x in data.items() if name != "train"]:
            check_attention(made.model, eval_sampler(split.examples, config, mesh), drops=False)
    run = Run(
        config=config,
        model=made.model,
        params=made.params,
        teacher=teacher,
        tokenizer=tokenizer,
        task=task,
        data=data,
        mesh=mesh,
        plan=made.plan,
        sampler=sampler,
        total_steps=total,
        notes=notes,
        own_tokenizer=read.vocabulary.directory if made.resized else None,
    )
    run.calendar.check(config.runtime.steps_per_execution)
    return run


def train_sampler(examples: Examples, config: Config, mesh: jax.sharding.Mesh, *, epochs: int = 1) -> BatchSampler:
    """Training batches of so many epochs."""
    return make_sampler(
        examples.lengths,
        batch_size=config.train.batch_size,
        max_length=config.data.max_length * examples.group,
        layout=config.data.layout,
        epochs=epochs,
        seed=config.seed,
        shapes=config.data.shapes,
        micro_batches=config.train.micro_batches,
        shards=mesh.size,
        lengthen=partial(fused_attention.padded_length, platform=mesh.devices.flat[0].platform),
    )


def eval_sampler(examples: Examples, config: Config, mesh: jax.sharding.Mesh) -> BatchSampler:
    """Evaluation batches of equally many examples, `eval.batch_size` at most.

    Packed ones are mixed by length, so that one shape fits them all; the others go longest first.
    """
    packed = config.data.layout == "pack"
    steps = -(-len(examples) // config.eval.batch_size)
    return make_sampler(
        examples.lengths,
        batch_size=-(-len(examples) // steps),
        max_length=config.data.max_length * examples.group,
        layout=config.data.layout,
        seed=0 if packed else None,
        shapes=1 if packed else config.data.shapes,
        shards=mesh.size,
        lengthen=partial(fused_attention.padded_length, platform=mesh.devices.flat[0].platform),
    )
