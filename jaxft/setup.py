"""From a config to everything a run needs: data, model, task, plan, planners, mesh, loss. Writes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxft import distill, rundir, sharding
from jaxft.adapters import add_adapters, settled
from jaxft.calls import Calendar
from jaxft.checks import duration_steps
from jaxft.config import Config
from jaxft.data.batches import Planner, make_planner
from jaxft.data.encode import Examples
from jaxft.data.odd import refuse
from jaxft.data.vocabulary import Vocabulary, open_vocabulary
from jaxft.errors import UserError
from jaxft.fit import check_attention, check_lengths, check_types
from jaxft.losses import WeightedSum
from jaxft.models import kernels
from jaxft.models.adapters import is_adapter as is_adapter_name
from jaxft.models.build import load, reinitialise
from jaxft.models.encoder import NOISE
from jaxft.models.files import read_config
from jaxft.models.model import MAIN, Model, make_model
from jaxft.models.peft import is_adapter
from jaxft.models.places import dropout_places, place_dropout
from jaxft.models.rows import split_rows, with_vocabulary
from jaxft.models.source import resolve
from jaxft.optim import check_optimizer, check_schedules
from jaxft.r_drop import with_r_drop
from jaxft.regularization import Regularization, noisy_words
from jaxft.step import LossFn
from jaxft.strategies import ParameterPlan, make_plan
from jaxft.tasks import task_class
from jaxft.tasks.task import Split, Task
from jaxft.tree import Params
from jaxft.used_words import UNUSED, embedded, used_words

RATES = ("dropout", "attention_dropout", "classifier_dropout")  # in `hyper` they replace the model's
PREFIX = "frozen_prefix"  # the token column of a batch with what the lowest layers give (see `prefix`)
SPLIT_STREAM = 2**32  # epochs count up from 0, so this stream of random numbers is never an epoch's


@dataclass(frozen=True)
class Run:
    """Everything that is fixed before the first step; `own_tokenizer` is there when it is not that of `model.path`."""

    config: Config
    model: Model
    params: Params
    teacher: tuple[Model, Params] | None
    tokenizer: Any
    task: Task
    data: Mapping[str, Split]
    mesh: jax.sharding.Mesh
    plan: ParameterPlan
    planner: Planner
    total_steps: int
    notes: tuple[str, ...] = ()  # lines for people
    own_tokenizer: Path | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps an epoch."""
        return self.planner.steps_per_epoch

    @property
    def calendar(self) -> Calendar:
        """When the run does something else than train."""
        epoch, config = self.steps_per_epoch, self.config
        evaluate = duration_steps(config.eval.every, epoch, "eval.every") if "validation" in self.data else None
        save = duration_steps(config.checkpoint.every, epoch, "checkpoint.every")
        return Calendar(self.total_steps, epoch, evaluate, save, tuple(self.plan.stages[1:]))

    @property
    def regularization(self) -> Regularization:
        """What a step does beside the loss."""
        return Regularization(self.config.regularization, self.plan)

    @cached_property
    def used_words(self) -> np.ndarray | None:
        """Ids of the words whose rows are trained, where the other rows of a trained table need not be."""
        changed = self.task.changes_words
        return used_words(self.config, self.model, self.plan, self.data["train"].examples, changed=changed)

    @property
    def metric(self) -> str:
        """The metric that chooses the best model."""
        return self.config.eval.metric or self.task.metric


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
    refuse(config.data)
    check_optimizer(config.optim)
    directory = resolve(config.model.path, config.model.revision)
    if is_adapter(directory):
        raise UserError(
            f"model.path {config.model.path}: is an adapter; a run starts from a whole model, such as "
            f"python -m jaxft.export {config.model.path} --merge --output DIR writes"
        )
    hf_config, where = read_config(directory), str(directory / "config.json")
    make_model(hf_config, config.task.name, where)  # a bad config.json is refused before the long reading
    task, data, vocabulary = _read_data(config, directory, hf_config)
    tokenizer = vocabulary.tokenizer
    model, params = load(
        config.model.path,
        task=config.task.name,
        labels=task.labels,
        revision=config.model.revision,
        num_layers=config.model.num_layers,
        dtype=config.train.dtype,
        unroll=config.runtime.unroll,
        seed=config.seed,
        from_scratch=config.model.from_scratch,
    )
    model, params, notes = _with_words(model, params, vocabulary, config)
    mesh = sharding.make_mesh(config.mesh, devices)
    model = settle_model(model, config, mesh)
    model, params = add_adapters(model, params, config)
    check_lengths(model, tokenizer, config.data.max_length)
    check_types(model, data)
    teacher = None
    if config.distill.teacher:
        teacher = distill.load_teacher(config.distill, model, tokenizer, dtype=config.train.dtype)
        teacher = (teacher[0].on(mesh), teacher[1])
        check_lengths(teacher[0], tokenizer, config.data.max_length, f"distill.teacher {config.distill.teacher}")
    training = data["train"].examples
    steps_per_epoch = -(-len(training) // config.train.batch_size)
    total = config.train.max_steps or max(1, int(np.ceil(config.train.epochs * steps_per_epoch - 1e-9)))
    planner = train_planner(training, config, mesh, epochs=-(-total // steps_per_epoch))
    plan = plan_of(config, model, params, steps_per_epoch, total)
    check_schedules(config.optim, plan)
    again = [name for name, x in plan.settings.items() if x.init == "random" and not is_adapter_name(name)]
    model, params = reinitialise(place_dropout(model, plan.dropout), params, again, config.seed)
    notes += check_attention(model, planner, drops=True)
    if config.runtime.attention not in ("auto", "plain"):  # those can do everything, and planning takes time
        for split in [x for name, x in data.items() if name != "train"]:
            check_attention(model, eval_planner(split.examples, config, mesh), drops=False)
    model, params = settled(model, params, plan, config.seed, resized=vocabulary.previous is not None)
    run = Run(
        config=config,
        model=model,
        params=params,
        teacher=teacher,
        tokenizer=tokenizer,
        task=task,
        data=data,
        mesh=mesh,
        plan=plan,
        planner=planner,
        total_steps=total,
        notes=notes,
        own_tokenizer=vocabulary.directory if vocabulary.previous is not None else None,
    )
    run.calendar.check(config.runtime.steps_per_execution)
    return run


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
        places=dropout_places(model),
    )


def make_loss(model: Model, task: Task, neftune: float = 0.0) -> LossFn:
    """The task's loss as a function of all parameters and a batch; dropout rates in `hyper` replace the model's.

    Args:
      model, task: of the run.
      neftune: size of the noise on word embeddings in training.
    """

    def loss(
        params: Params, batch: dict[str, jax.Array], key: jax.Array | None, hyper: Mapping[str, Any]
    ) -> tuple[WeightedSum, dict[str, jax.Array]]:
        rates = model.override(**{name: hyper[name] for name in RATES if name in hyper})
        inputs = batch | {"hidden_states": batch[PREFIX]} if PREFIX in batch else batch
        noise = jax.random.fold_in(key, NOISE) if neftune and key is not None else None
        if UNUSED in params or noise is not None:
            words = embedded(params, batch["input_ids"], training=key is not None)
            words = words if noise is None else noisy_words(words, batch, neftune, noise)
            inputs = inputs | {"inputs_embeds": words}
        outputs = model.apply(params, inputs, head=MAIN, key=key, rates=rates)
        return task.loss(outputs, batch, train=key is not None), outputs

    return loss


def run_loss(run: Run) -> LossFn:
    """The training loss of a run: the task's, with what the config adds to it."""
    own = run.config.regularization
    loss = make_loss(run.model, run.task, own.neftune)
    loss = distill.with_teacher(loss, run.task, run.teacher[0], run.config.distill) if run.teacher else loss
    return with_r_drop(loss, run.task, own.r_drop) if own.r_drop else loss


def train_planner(examples: Examples, config: Config, mesh: jax.sharding.Mesh, *, epochs: int = 1) -> Planner:
    """Training batches of so many epochs."""
    return make_planner(
        examples.lengths,
        batch_size=config.train.batch_size,
        max_length=config.data.max_length * examples.group,
        layout=config.data.layout,
        epochs=epochs,
        seed=config.seed,
        shapes=config.data.shapes,
        micro_batches=config.train.micro_batches,
        shards=sharding.shard_count(mesh),
        lengthen=partial(kernels.lengthened, platform=mesh.devices.flat[0].platform),
    )


def eval_planner(examples: Examples, config: Config, mesh: jax.sharding.Mesh) -> Planner:
    """Evaluation batches of equally many examples, `eval.batch_size` at most.

    Packed ones are mixed by length, so that one shape fits them all; the others go longest first.
    """
    packed = config.data.layout == "pack"
    steps = -(-len(examples) // config.eval.batch_size)
    return make_planner(
        examples.lengths,
        batch_size=-(-len(examples) // steps),
        max_length=config.data.max_length * examples.group,
        layout=config.data.layout,
        seed=0 if packed else None,
        shapes=1 if packed else config.data.shapes,
        shards=sharding.shard_count(mesh),
        lengthen=partial(kernels.lengthened, platform=mesh.devices.flat[0].platform),
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
    line = f"vocabulary: {len(sources.kept) - sources.new:,} words keep their rows, {sources.new:,} are new ({how})"
    return replace(model, directory=vocabulary.directory), params, (line,)


def _read_data(config: Config, directory: Any, hf_config: Mapping[str, Any]) -> tuple[Task, dict[str, Split], Vocabulary]:
    kind = task_class(config)
    origins = {s: str(where) for s in ("train", "validation", "test") if (where := getattr(config.data, s))}
    rows = {split: kind.read(config, split) for split in origins}
    for split, x in rows.items():
        most = config.data.max_train_examples if split == "train" else config.data.max_eval_examples
        rows[split] = x.select(range(min(most, len(x)))) if most else x
    task = kind.learn(config, hf_config, rows["train"], origins["train"])
    if share := config.data.validation_share:
        rows |= _split(rows["train"], share, config.seed)
        origins["validation"] = origins["train"]
    recorded = rundir.recorded_tokenizer(config)
    vocabulary = open_vocabulary(config.vocabulary, directory, recorded, lambda: kind.texts(rows["train"], config))
    tokenizer, directory = vocabulary.tokenizer, vocabulary.directory
    task = task.with_tokenizer(tokenizer, directory)
    splits = {s: task.encode(x, tokenizer, directory, config, origins[s]) for s, x in rows.items()}
    return task, splits, vocabulary


def _split(rows: Any, share: float, seed: int) -> dict[str, Any]:
    held = round(len(rows) * share)
    if not 0 < held < len(rows):
        raise UserError(f"data.validation_share {share} of {len(rows)} examples leaves one side empty")
    order = np.random.Generator(np.random.Philox(key=[seed, SPLIT_STREAM])).permutation(len(rows))
    return {"validation": rows.select(np.sort(order[:held])), "train": rows.select(np.sort(order[held:]))}
