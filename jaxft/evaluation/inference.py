"""Open a fine-tuned model for evaluation, prediction or embeddings."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from jaxft.config import Config, TaskConfig
from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.core.model_source import resolve
from jaxft.core.object_reference import is_reference
from jaxft.core.tree import Params
from jaxft.data.batching.collect import Summary
from jaxft.data.reading import files
from jaxft.data.reading.empty_texts import EMPTY, check_not_kept, empty_rows, nulls
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.evaluation.chunks import WHOLE_PASS, Forward, Pass, Place, in_chunks, predict_step
from jaxft.evaluation.evaluator import make_evaluator, score
from jaxft.evaluation.labelled_predictions import labelled_predictions
from jaxft.models.families import family_of, kind_of
from jaxft.models.load_save import load
from jaxft.models.model import Model, stored_options
from jaxft.models.peft.read_adapter import read_hf_config
from jaxft.parallel import sharding
from jaxft.run.agreement import check_same_examples
from jaxft.run.assembly import check_lengths
from jaxft.run.loss import make_loss
from jaxft.run.setup import eval_sampler
from jaxft.run.splits import drop_unknown_labels
from jaxft.run.stored_cleaning import cleaned_as_stored
from jaxft.run.trained_models import model_directory
from jaxft.step.parameters import Parameters
from jaxft.tasks import TASKS, named_task, task_class, task_options, texts
from jaxft.tasks.labels import problem_of
from jaxft.tasks.limits import first_examples, first_rows
from jaxft.tasks.task import Batch, Outputs, Split, Task

FEATURES = "feature-extraction"  # the kind of a model without the head of a task


@dataclass(frozen=True)
class LoadedModel:
    """A model and its tokenizer, with the parameters on a mesh."""

    config: Config
    directory: Path
    model: Model
    params: Params
    tokenizer: Any
    mesh: jax.sharding.Mesh

    def forward(self, summarise: Callable[..., Summary], prepare: Callable[..., Batch] = lambda batch, _: batch) -> Forward:
        """The forward pass from whose outputs `summarise` selects what to read back; `prepare` is `Task.prepare`."""
        step = partial(predict_step, model=self.model, summarise=summarise, prepare=prepare)
        return Forward(step, self.params, self.mesh, self.config)


@dataclass(frozen=True)
class OpenedModel(LoadedModel):
    """A loaded model with its task."""

    task: Task

    def encode(self, rows: Any, split: str, *, labelled: bool = True) -> Split:
        """Tokenise the rows of a split."""
        origin = files.origin(self.config.data, split)
        return self.task.encode(rows, self.tokenizer, self.directory, self.config, origin, labelled=labelled)


def head_of(path: str, config: Config) -> tuple[str | None, Mapping[str, Any]]:
    """(the kind of head of the model in RUN_OR_MODEL_DIR, its config.json); None for a head that jaxft does not know."""
    directory = resolve(model_directory(path), config.model.revision)
    hf_config = read_hf_config(directory)
    return kind_of(family_of(hf_config, str(directory / "config.json")), hf_config), hf_config


def config_with_task(path: str, config: Config) -> Config:
    """A copy of the config with the task that the model in RUN_OR_MODEL_DIR was fine-tuned for, and its cleaning of texts.

    Raises:
      UserError: if the model has no head of a task.
    """
    kind, hf_config = head_of(path, config)
    options = config.task
    if is_reference(options.name):
        task = named_task(options)
        if task.kind != kind:
            raise UserError(f"{path}: has the head of {kind}, but task.name {options.name} is for that of {task.kind}")
    elif kind not in TASKS:
        raise UserError(
            f"{path}: is a {kind or FEATURES} model without the head of a task; fine-tune it first with "
            "python -m jaxft.train, or take embeddings with python -m jaxft.predict --features mean"
        )
    else:
        problem = problem_of(hf_config, options.problem) if kind == "text-classification" else options.problem
        options = replace(options, name=kind, problem=problem)
    if options.threshold == "tune" and "threshold" not in task_options(options):  # "tune" means that none was given
        options = replace(options, threshold=TaskConfig().threshold)
    config = cleaned_as_stored(config, hf_config)
    split_words = config.data.split_words or stored_options(hf_config).get("split_words")
    return replace(config, task=options, data=replace(config.data, split_words=split_words))


def load_for_inference(path: str, config: Config) -> OpenedModel:
    """Open the model in RUN_OR_MODEL_DIR with a config from `config_with_task`."""
    loaded = load_model(path, config)
    task = task_class(config).restore(config, loaded.model.hf_config).with_tokenizer(loaded.tokenizer, loaded.directory)
    return OpenedModel(**vars(loaded), task=task)


def load_model(path: str, config: Config, kind: str | None = None) -> LoadedModel:
    """Load the model in RUN_OR_MODEL_DIR, with its own head or one of `kind`."""
    model, params = load(
        model_directory(path),
        task=kind,
        revision=config.model.revision,
        dtype=config.train.dtype,
        unroll=config.runtime.unroll,
    )
    assert model.directory is not None
    directory = model.directory
    tokenizer = load_tokenizer(directory)
    check_lengths(model, tokenizer, config.data.max_length)
    mesh = sharding.make_mesh(replace(config.mesh, data=-1, fsdp=1))
    # Each layer is a stack of its own: of a stack of several, a program that does not loop would copy every layer's kernels.
    model, layers = model.on(mesh), model.encoder.config.parameter_layers
    params = tree.recut(params, range(layers) if model.policy.unrolled_layers >= layers else ())
    params = sharding.place_params(mesh, params)
    return LoadedModel(config, directory, model, params, tokenizer, mesh)


def read_split(config: Config, split: str, *, labelled: bool = True) -> Any:
    """Read the rows of a split, at most `data.max_eval_examples`; without labels for prediction."""
    if labelled:
        check_not_kept(config.data)
    task = task_class(config)
    return first_rows(task, task.read(config, split, labelled=labelled), config, split, labelled=labelled)


def evaluate(
    opened: OpenedModel, rows: Any, split: str, say: Callable[[str], None], *, predictions: bool = False
) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """(metrics on the labelled rows of a split, the rows of `labelled_predictions` from the same pass).

    `say` is called with messages; `predictions` says whether the second are needed.

    Raises:
      UserError: if predictions are asked for, and the task has no right answers beside them.
    """
    if predictions and not opened.task.has_gold:
        raise UserError(f"{opened.task.kind} has no predictions beside right answers: leave --output and --predictions out")
    rows, notes = drop_unknown_labels(opened.task, rows, opened.config, str(getattr(opened.config.data, split)))
    for note in notes:
        say(note)
    data = first_examples(type(opened.task), opened.encode(rows, split), opened.config, split)
    check_same_examples(data.examples, data.origin)
    sampler = eval_sampler(data.examples, opened.config, opened.mesh)
    loss = make_loss(opened.model, opened.task)
    params = Parameters(opened.params)
    parts = (opened.task, loss, data, sampler, params, opened.mesh, say)
    summary = make_evaluator(*parts, predictions=predictions).collect(params)
    found = labelled_predictions(opened.task, summary, data, opened.config, split)
    return score(opened.task, summary, data), found


def predict(opened: OpenedModel, rows: Any, split: str) -> Iterator[dict[str, Any]]:
    """Yield one prediction per row of a split, in the order of the rows; nulls for rows without a text.

    Rows are encoded and predictions are computed lazily, in chunks (see `chunks`).
    """
    for predictions, _ in predicted_chunks(opened, rows, split):
        yield from predictions


def predicted_chunks(
    opened: OpenedModel, rows: Any, split: str, way: Pass = WHOLE_PASS
) -> Iterator[tuple[Iterator[dict[str, Any]], Place]]:
    """Yield (the predictions of `predict` for a chunk of rows, the place after it)."""
    task = opened.task
    forward = opened.forward(task.predict, task.prepare)
    given = rows, lambda some: opened.encode(some, split, labelled=False), forward
    for data, summary, place in in_chunks(*given, whole=not task.chunkable, way=way):
        yield nulls(task.decode(summary, data), empty_rows(data.rows) | data.notes.get(EMPTY, False)), place


def probabilities(opened: OpenedModel, rows: Any, split: str) -> np.ndarray:
    """The probability of each label for the rows of a split, float32 [N, labels]; the task has one label per text."""
    forward = opened.forward(opened.task.predict, opened.task.prepare)
    chunks = in_chunks(rows, lambda some: opened.encode(some, split, labelled=False), forward)
    found = [softmax(summary.examples["logits"].astype(np.float64), axis=-1) for _, summary, _ in chunks]
    return np.concatenate(found).astype(np.float32)


def embeddings(path: str, config: Config, rows: Any, origin: str, source: str) -> Iterator[np.ndarray]:
    """Yield one embedding per row, float32 [D], in the order of the rows; NaN for rows without a text.

    Embeddings are computed lazily, in chunks; the arguments and errors are those of `embedded_chunks`.
    """
    for vectors, _ in embedded_chunks(path, config, rows, origin, source):
        yield from vectors


def embedded_chunks(
    path: str, config: Config, rows: Any, origin: str, source: str, way: Pass = WHOLE_PASS
) -> Iterator[tuple[np.ndarray, Place]]:
    """Yield (the embeddings of a chunk of rows, float32 [rows, D], with NaN for rows without a text, the place after it).

    Args:
      path, config: RUN_OR_MODEL_DIR, with or without a head, and the config with columns, maximum length and batch size.
      rows, origin: the rows from `texts.read`, and their file.
      source: `cls`, the last hidden state of the first token; `mean`, the mean of the last hidden states over all tokens,
        special tokens included (as in sentence-transformers); `pooled`, Hugging Face's `pooler_output`.
      way: where the pass begins, and what it is told.

    Raises:
      UserError: if `source` is `pooled` and the model has no trained pooler.
    """
    loaded = load_model(path, config, FEATURES)
    model = loaded.model
    fresh = model.report is not None and any(name.startswith("encoder.pooler.") for name in model.report.new)
    if source == "pooled" and (not model.encoder.pooler or fresh):
        raise UserError(f"{path}: has no pooler, which --features pooled needs; use cls or mean")

    def summarise(outputs: Outputs, batch: Batch) -> Summary:
        if source == "cls":
            first = jnp.take_along_axis(outputs["last_hidden_state"], batch["first_token"][..., None], axis=1)
            return Summary(examples={"embedding": first})
        return Summary(examples={"embedding": outputs["mean_output" if source == "mean" else "pooler_output"]})

    def encode(some: Any) -> Split:
        return Split(some, texts.encode(some, loaded.tokenizer, loaded.directory, config.data, origin), origin)

    for data, summary, place in in_chunks(rows, encode, loaded.forward(summarise), way=way):
        yield np.where(empty_rows(data.rows)[:, None], np.float32(np.nan), summary.examples["embedding"]), place
