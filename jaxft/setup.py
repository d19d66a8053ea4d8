"""From a config to everything a run needs: data, model, task, plan, planners, mesh, loss. Writes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from jaxft import distill, sharding
from jaxft.config import Config
from jaxft.data.batches import Planner, make_planner
from jaxft.data.encode import Examples, load_tokenizer
from jaxft.errors import UserError
from jaxft.losses import WeightedSum
from jaxft.models.build import load
from jaxft.models.files import read_config
from jaxft.models.model import MAIN, Model, are_generic, labels_of, make_model
from jaxft.models.source import resolve
from jaxft.step import LossFn
from jaxft.strategies import ParameterPlan, make_plan
from jaxft.tasks import text_classification as classification
from jaxft.tasks.text_classification import TextClassification
from jaxft.tree import Params

RATES = ("dropout", "attention_dropout", "classifier_dropout")  # in `hyper` they replace the model's
SPLIT_STREAM = 2**32  # epochs count up from 0, so this stream of random numbers is never an epoch's


@dataclass(frozen=True)
class Run:
    """Everything that is fixed before the first step."""

    config: Config
    model: Model
    params: Params
    teacher: tuple[Model, Params] | None
    tokenizer: Any
    task: TextClassification
    data: Mapping[str, Examples]
    mesh: jax.sharding.Mesh
    plan: ParameterPlan
    planner: Planner
    total_steps: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps an epoch."""
        return self.planner.steps_per_epoch


def make_run(config: Config) -> Run:
    """Read the data, open the model, and decide plan, shapes and number of steps.

    Raises:
      UserError: for anything that is missing, malformed or does not fit together.
    """
    if config.model.path is None:
        raise UserError("model.path is not set: give a hub id, a directory or package:NAME/SUBDIR")
    if config.data.train is None:
        raise UserError("data.train is not set: give a csv, tsv, json, jsonl, parquet or txt file")
    directory = resolve(config.model.path, config.model.revision)
    hf_config, where = read_config(directory), str(directory / "config.json")
    make_model(hf_config, config.task.name, where)  # a bad config.json is refused before the long reading
    data, labels, tokenizer = _read_data(config, directory, hf_config)
    model, params = load(
        config.model.path,
        task=config.task.name,
        labels=labels,
        revision=config.model.revision,
        num_layers=config.model.num_layers,
        dtype=config.train.dtype,
        unroll=config.runtime.unroll,
        seed=config.seed,
    )
    own = config.model
    rates = model.override(
        dropout=own.dropout, attention_dropout=own.attention_dropout, classifier_dropout=own.classifier_dropout
    )
    model = replace(model, rates=rates)
    check_lengths(model, tokenizer, config.data.max_length)
    check_types(model, data)
    teacher = None
    if config.distill.teacher:
        teacher = distill.load_teacher(config.distill, model, tokenizer, dtype=config.train.dtype)
        check_lengths(teacher[0], tokenizer, config.data.max_length, f"distill.teacher {config.distill.teacher}")
    mesh = sharding.make_mesh(config.mesh)
    steps_per_epoch = -(-len(data["train"]) // config.train.batch_size)
    total = config.train.max_steps or max(1, int(np.ceil(config.train.epochs * steps_per_epoch - 1e-9)))
    planner = train_planner(data["train"].lengths, config, mesh, epochs=-(-total // steps_per_epoch))
    return Run(
        config=config,
        model=model,
        params=params,
        teacher=teacher,
        tokenizer=tokenizer,
        task=TextClassification(tuple(labels), config.train.label_smoothing),
        data=data,
        mesh=mesh,
        plan=make_plan(config.plan, params, model.encoder.config.parameter_layers),
        planner=planner,
        total_steps=total,
    )


def make_loss(model: Model, task: TextClassification) -> LossFn:
    """The task's loss as a function of all parameters and a batch; dropout rates in `hyper` replace the model's."""

    def loss(
        params: Params, batch: dict[str, jax.Array], key: jax.Array | None, hyper: Mapping[str, Any]
    ) -> tuple[WeightedSum, dict[str, jax.Array]]:
        rates = model.override(**{name: hyper[name] for name in RATES if name in hyper})
        outputs = model.apply(params, batch, head=MAIN, key=key, rates=rates)
        return task.loss(outputs, batch, train=key is not None), outputs

    return loss


def run_loss(run: Run) -> LossFn:
    """The training loss of a run, with its teacher if it has one."""
    loss = make_loss(run.model, run.task)
    return distill.with_teacher(loss, run.teacher[0], run.config.distill) if run.teacher else loss


def train_planner(lengths: np.ndarray, config: Config, mesh: jax.sharding.Mesh, *, epochs: int = 1) -> Planner:
    """Training batches of so many epochs."""
    return make_planner(
        lengths,
        batch_size=config.train.batch_size,
        max_length=config.data.max_length,
        layout=config.data.layout,
        epochs=epochs,
        seed=config.seed,
        shapes=config.data.shapes,
        micro_batches=config.train.micro_batches,
        shards=sharding.shard_count(mesh),
    )


def eval_planner(lengths: np.ndarray, config: Config, mesh: jax.sharding.Mesh) -> Planner:
    """Evaluation batches: one shape, longest first, so that rows are full."""
    return make_planner(
        lengths,
        batch_size=config.eval.batch_size,
        max_length=config.data.max_length,
        layout=config.data.layout,
        seed=None,
        shapes=1 if config.data.layout == "pack" else config.data.shapes,
        shards=sharding.shard_count(mesh),
    )


def labelled(
    rows: Any, values: list[str], tokenizer: Any, directory: Any, config: Config, labels: list[str], origin: str
) -> Examples:
    """A split and the values of its label column as examples with label ids."""
    ids = classification.label_ids(values, labels, origin)
    return classification.encode(rows, tokenizer, directory, config.data, origin).with_columns(labels=ids)


def check_lengths(model: Model, tokenizer: Any, max_length: int, name: str = "the model") -> None:
    """Refuse sequences or ids that the model has no embedding for."""
    positions, vocabulary = model.encoder.config.usable_positions, model.encoder.config.vocab_size
    if positions is not None and max_length > positions:
        raise UserError(f"data.max_length is {max_length} but {name} has {positions} positions")
    if len(tokenizer) > vocabulary:
        raise UserError(f"the tokenizer has {len(tokenizer)} tokens but the vocabulary of {name} has {vocabulary}")


def check_types(model: Model, data: Mapping[str, Examples]) -> None:
    """Refuse token types that the model has no embedding for; a model without any ignores them."""
    types = model.encoder.config.type_vocab_size
    most = max((int(x.tokens["token_type_ids"].max()) for x in data.values()), default=0)
    if types and most >= types:
        raise UserError(f"the tokenizer gives token types up to {most} but the model has {types}: it was made for another")


def _read_data(config: Config, directory: Any, hf_config: Mapping[str, Any]) -> tuple[dict[str, Examples], list[str], Any]:
    data = config.data
    rows = {s: classification.read(data, s) for s in ("train", "validation", "test") if getattr(data, s)}
    if data.max_train_examples:
        rows["train"] = rows["train"].select(range(min(data.max_train_examples, len(rows["train"]))))
    origins = {split: str(getattr(data, split)) for split in rows}
    train_values = classification.label_values(rows["train"], data.label, origins["train"])
    labels = config.task.labels or _known_labels(hf_config, classification.label_names(train_values))
    if len(labels) < 2:
        raise UserError(f'{data.train}: column "{data.label}" has only the label "{labels[0]}"; a classifier needs two')
    if config.eval.metric == "f1" and len(labels) != 2 and (data.validation or data.validation_share):
        raise UserError(f"eval.metric is f1, which needs two labels; this task has {len(labels)}: use macro_f1")
    tokenizer = load_tokenizer(directory)
    splits = {}
    for split, origin in origins.items():
        own = train_values if split == "train" else classification.label_values(rows[split], data.label, origin)
        splits[split] = labelled(rows[split], own, tokenizer, directory, config, labels, origin)
    if data.validation_share:
        splits |= _split(splits["train"], data.validation_share, config.seed)
    return splits, labels, tokenizer


def _known_labels(hf_config: Mapping[str, Any], found: list[str]) -> list[str]:
    """The checkpoint's own labels where the data's are the same set or their numbers, so that its head is kept."""
    known = labels_of(hf_config)
    if are_generic(known):
        return found
    return known if set(found) == set(known) or found == [str(i) for i in range(len(known))] else found


def _split(examples: Examples, share: float, seed: int) -> dict[str, Examples]:
    held = round(len(examples) * share)
    if not 0 < held < len(examples):
        raise UserError(f"data.validation_share {share} of {len(examples)} examples leaves one side empty")
    order = np.random.Generator(np.random.Philox(key=[seed, SPLIT_STREAM])).permutation(len(examples))
    return {"validation": examples.select(np.sort(order[:held])), "train": examples.select(np.sort(order[held:]))}
