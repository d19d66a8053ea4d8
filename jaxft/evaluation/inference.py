"""Open a fine-tuned model for evaluation, prediction or embeddings."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from jaxft.config import Config, TaskConfig
from jaxft.core.errors import UserError
from jaxft.core.model_source import resolve
from jaxft.core.object_reference import is_reference
from jaxft.core.tree import Params
from jaxft.data.reading import files
from jaxft.data.reading.empty_texts import EMPTY, check_not_kept, empty_rows, nulls
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.evaluation.chunks import Forward, in_chunks
from jaxft.evaluation.evaluator import make_evaluator
from jaxft.models.families import family_of, kind_of
from jaxft.models.load_save import load
from jaxft.models.model import Model, stored_options
from jaxft.models.peft.read_adapter import read_hf_config
from jaxft.parallel import sharding
from jaxft.run import rundir
from jaxft.run.assembly import check_lengths
from jaxft.run.loss import make_loss
from jaxft.run.setup import eval_sampler
from jaxft.run.splits import drop_unknown_labels
from jaxft.step.parameters import Parameters
from jaxft.tasks import TASKS, named_task, task_class, task_options
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
        """Tokenise the rows of a split."""
        origin = files.origin(self.config.data, split)
        return self.task.encode(rows, self.tokenizer, self.directory, self.config, origin, labelled=labelled)


def head_of(path: str, config: Config) -> tuple[str | None, Mapping[str, Any]]:
    """(the kind of head of the model in RUN_OR_MODEL_DIR, its config.json); None for a head that jaxft does not know."""
    directory = resolve(rundir.model_directory(path), config.model.revision)
    hf_config = read_hf_config(directory)
    return kind_of(family_of(hf_config, str(directory / "config.json")), hf_config), hf_config


def config_with_task(path: str, config: Config) -> Config:
    """A copy of the config with the task that the model in RUN_OR_MODEL_DIR was fine-tuned for.

    Raises:
      UserError: if the model has no head of a task.
    """
    kind, hf_config = head_of(path, config)
    own = config.task
    stored = stored_options(hf_config)
    config = replace(config, data=replace(config.data, split_words=config.data.split_words or stored.get("split_words")))
    if is_reference(own.name):
        task = named_task(own)
        if task.kind != kind:
            raise UserError(f"{path}: has the head of {kind}, but task.name {own.name} is for that of {task.kind}")
        return config if "threshold" in task_options(own) else replace(config, task=replace(own, threshold=_threshold(own)))
    if kind not in TASKS:
        raise UserError(
            f"{path}: is a {kind or 'feature-extraction'} model without the head of a task; fine-tune it first with "
            "python -m jaxft.train, or take embeddings with python -m jaxft.predict --features mean"
        )
    problem = problem_of(hf_config, own.problem) if kind == "text-classification" else own.problem
    threshold = own.threshold if problem == "multi_label" else _threshold(own)
    return replace(config, task=replace(own, name=kind, problem=problem, threshold=threshold))


def _threshold(own: TaskConfig) -> Any:
    """The threshold option for a task without thresholds; "tune" means that none was given."""
    return own.threshold if own.threshold != "tune" else TaskConfig().threshold


def open_model(path: str, config: Config) -> OpenedModel:
    """Open the model in RUN_OR_MODEL_DIR with a config from `config_with_task`."""
    model, params, tokenizer, mesh = load_on_mesh(path, config)
    assert model.directory is not None
    task = task_class(config).restore(config, model.hf_config).with_tokenizer(tokenizer, model.directory)
    return OpenedModel(config, model, params, tokenizer, task, mesh)


def load_on_mesh(path: str, config: Config, kind: str | None = None) -> tuple[Model, Params, Any, jax.sharding.Mesh]:
    """Load (model, parameters on the mesh, tokenizer, mesh) from RUN_OR_MODEL_DIR, with its own head or one of `kind`."""
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
    return model.on(mesh), sharding.place_params(mesh, params), tokenizer, mesh


def read_split(config: Config, split: str, *, labelled: bool = True) -> Any:
    """Read the rows of a split, at most `data.max_eval_examples`; without labels for prediction."""
    if labelled:
        check_not_kept(config.data)
    task = task_class(config)
    return first_rows(task, task.read(config, split, labelled=labelled), config, split, labelled=labelled)


def evaluate(opened: OpenedModel, rows: Any, split: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Compute metrics on the labelled rows of a split; `say` is called with messages."""
    rows, notes = drop_unknown_labels(opened.task, rows, opened.config, str(getattr(opened.config.data, split)))
    for note in notes:
        say(note)
    data = first_examples(type(opened.task), opened.encode(rows, split), opened.config, split)
    sampler = eval_sampler(data.examples, opened.config, opened.mesh)
    loss = make_loss(opened.model, opened.task)
    params = Parameters(opened.params)
    return make_evaluator(opened.task, loss, data, sampler, params, opened.mesh, say).scores(params)


def predict(opened: OpenedModel, rows: Any, split: str) -> Iterator[dict[str, Any]]:
    """Yield one prediction per row of a split, in the order of the rows; nulls for rows without a text.

    Rows are encoded and predictions are computed lazily, in chunks (see `chunks`).
    """
    task = opened.task
    forward = Forward(opened.model, opened.params, opened.mesh, opened.config, task.predict, task.prepare)
    chunks = in_chunks(rows, lambda some: opened.encode(some, split, labelled=False), forward, whole=not task.chunkable)
    for data, found in chunks:
        yield from nulls(task.decode(found, data), empty_rows(data.rows) | data.notes.get(EMPTY, False))
