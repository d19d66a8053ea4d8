"""A model opened for evaluation, prediction and features."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from jaxft.config import Config, TaskConfig
from jaxft.core.errors import UserError
from jaxft.core.model_source import resolve
from jaxft.core.tree import Params
from jaxft.data.reading import files
from jaxft.data.reading.empty_texts import ODD, empty_rows, nulls, refuse
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.evaluation.chunks import Forward, in_chunks
from jaxft.evaluation.evaluator import make_evaluator
from jaxft.models.families import family_of, kind_of
from jaxft.models.load_save import load
from jaxft.models.model import Model
from jaxft.models.peft.read_adapter import read_config
from jaxft.parallel import sharding
from jaxft.run import rundir
from jaxft.run.compatibility import check_lengths
from jaxft.run.setup import eval_sampler, make_loss
from jaxft.run.splits import without_unknown
from jaxft.step.parameters import Parameters
from jaxft.tasks import TASKS, task_class
from jaxft.tasks.example_limits import first_examples, first_rows
from jaxft.tasks.labels import problem_of
from jaxft.tasks.task import Split, Task


@dataclass(frozen=True)
class OpenedModel:
    """A model, its tokenizer and its task on a mesh."""

    config: Config
    model: Model
    params: Params
    tokenizer: Any
    task: Task
    mesh: jax.sharding.Mesh

    @property
    def directory(self) -> Path:
        """The model directory."""
        assert self.model.directory is not None
        return self.model.directory

    def encode(self, rows: Any, split: str, *, labelled: bool = True) -> Split:
        """Rows of a split as examples."""
        origin = files.origin(self.config.data, split)
        return self.task.encode(rows, self.tokenizer, self.directory, self.config, origin, labelled=labelled)


def head_of(path: str, config: Config) -> tuple[str | None, Mapping[str, Any]]:
    """(the kind of the head of RUN_OR_MODEL_DIR, its config.json); None for a head that jaxft does not know."""
    directory = resolve(rundir.model_directory(path), config.model.revision)
    hf_config = read_config(directory)
    return kind_of(family_of(hf_config, str(directory / "config.json")), hf_config), hf_config


def with_task(path: str, config: Config) -> Config:
    """The config with the task that RUN_OR_MODEL_DIR was fine-tuned for.

    Raises:
      UserError: when it is no fine-tuned model of a task.
    """
    kind, hf_config = head_of(path, config)
    if kind not in TASKS:
        raise UserError(
            f"{path}: is a {kind or 'feature-extraction'} model without the head of a task; fine-tune it first with "
            "python -m jaxft.train, or take embeddings with python -m jaxft.predict --features mean"
        )
    own = config.task
    problem = problem_of(hf_config, own.problem) if kind == "text-classification" else own.problem
    stored = (hf_config.get("task_specific_params") or {}).get("jaxft") or {}
    data = replace(config.data, split_words=config.data.split_words or stored.get("split_words"))
    threshold = own.threshold if problem == "multi_label" or own.threshold != "tune" else TaskConfig().threshold
    return replace(config, data=data, task=replace(own, name=kind, problem=problem, threshold=threshold))


def open_model(path: str, config: Config) -> OpenedModel:
    """Open RUN_OR_MODEL_DIR with a config from `with_task`."""
    model, params, tokenizer, mesh = open_chunks(path, config)
    assert model.directory is not None
    task = task_class(config).restore(config, model.hf_config).with_tokenizer(tokenizer, model.directory)
    return OpenedModel(config, model, params, tokenizer, task, mesh)


def open_chunks(path: str, config: Config, kind: str | None = None) -> tuple[Model, Params, Any, jax.sharding.Mesh]:
    """(model, parameters on the mesh, tokenizer, mesh) of RUN_OR_MODEL_DIR, with its own head or one of a kind."""
    model, params = load(
        rundir.model_directory(path),
        task=kind,
        revision=config.model.revision,
        dtype=config.train.dtype,
        unroll=config.runtime.unroll,
    )
    assert model.directory is not None
    tokenizer = load_tokenizer(model.directory)
    check_lengths(model, tokenizer, config.data.max_length)
    mesh = sharding.make_mesh(replace(config.mesh, data=-1, fsdp=1))
    return model.on(mesh), sharding.place(params, sharding.param_shardings(mesh, params)), tokenizer, mesh


def read(config: Config, split: str, *, labelled: bool = True) -> Any:
    """The rows of a split, `data.max_eval_examples` at most; without labels for prediction."""
    if labelled:
        refuse(config.data)
    task = task_class(config)
    return first_rows(task, task.read(config, split, labelled=labelled), config, split, labelled=labelled)


def evaluate(opened: OpenedModel, rows: Any, split: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Metrics of the labelled rows of a split."""
    rows, notes = without_unknown(opened.task, rows, opened.config, str(getattr(opened.config.data, split)))
    for note in notes:
        say(note)
    data = first_examples(type(opened.task), opened.encode(rows, split), opened.config, split)
    sampler = eval_sampler(data.examples, opened.config, opened.mesh)
    loss = make_loss(opened.model, opened.task)
    params = Parameters(opened.params)
    return make_evaluator(opened.task, loss, data, sampler, params, opened.mesh, say).scores(params)


def predict(opened: OpenedModel, rows: Any, split: str) -> Iterator[dict[str, Any]]:
    """A prediction for every row of a split, in their order; of nulls for rows without a text (see `data/odd`).

    Rows are encoded and computed as they are asked for, in parts (see `parts`).
    """
    task = opened.task
    forward = Forward(opened.model, opened.params, opened.mesh, opened.config, task.predict, task.prepare)
    parts = in_chunks(rows, lambda some: opened.encode(some, split, labelled=False), forward, whole=not task.by_chunks)
    for data, found in parts:
        yield from nulls(task.decode(found, data), empty_rows(data.rows) | data.notes.get(ODD, False))
