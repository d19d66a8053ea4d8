"""An artefact in the place of its model: it is evaluated like a model, and its outputs are compared with the model's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxft.core.tree import Params
from jaxft.deploy.function import input_names, portable
from jaxft.models import forward
from jaxft.models.model import MAIN, Model

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Arrays]  # the int64 inputs of an artefact -> its outputs
ROWS = 64  # inputs that are replayed
LONGEST = 64  # tokens of random inputs
_COLUMNS = ("input_ids", "segment_ids", "token_type_ids", "first_token", "token_positions")


@dataclass(frozen=True, eq=False)
class ReplayedModel(Model):
    """A model whose forward pass is that of an artefact.

    Attributes:
      run: the artefact.
      seen: the first inputs that the artefact has had.
    """

    run: Run = field(default=lambda _: {})
    seen: list[Arrays] = field(default_factory=list)

    def apply(self, params: Params, inputs: dict[str, jax.Array], **options: Any) -> dict[str, jax.Array]:
        """What `Model.apply` computes without dropout: rows of several examples are taken apart for the artefact."""
        shapes = jax.eval_shape(lambda params, inputs: Model.apply(self, params, inputs), params, inputs)
        columns = {name: inputs[name] for name in _COLUMNS if name in inputs}

        def call(batch: Mapping[str, Any]) -> Arrays:
            found = self.outputs_of(batch)
            return {name: found[name].astype(x.dtype).reshape(x.shape) for name, x in shapes.items()}

        return jax.pure_callback(call, shapes, columns)

    def outputs_of(self, batch: Mapping[str, Any]) -> Arrays:
        """The outputs for a batch [R, T] with M examples in a row: [R, M, ...] for examples and [R, T, ...] for tokens."""
        batch = {name: np.asarray(x) for name, x in batch.items()}
        segments, slots = batch["segment_ids"], batch["first_token"].shape[1]
        row, column = np.nonzero(segments)
        cell = row * slots + segments[row, column] - 1  # the example of each token, in the order of rows and slots
        cells, example = np.unique(cell, return_inverse=True)
        starts = np.flatnonzero(np.diff(cell, prepend=-1))
        place = np.arange(len(cell)) - starts[example]
        shape = len(cells), int(place.max(initial=0)) + 1
        inputs = {name: np.zeros(shape, np.int64) for name in input_names(self)}
        inputs["input_ids"][:] = self.encoder.config.pad_token_id
        inputs["attention_mask"][example, place] = 1
        for name in inputs.keys() & batch.keys():
            inputs[name][example, place] = batch[name][row, column]
        choices = self.heads[MAIN].kind == "multiple-choice"
        given = {name: x[:, None] for name, x in inputs.items()} if choices else inputs
        if not self.seen:
            self.seen.append({name: x[:ROWS] for name, x in given.items()})
        found = {}
        for name, x in self.run(given).items():
            if name in forward.of_rows(self):
                array = np.zeros((segments.shape[0] * slots, *x.shape[1:]), np.float32)
                array[cells] = x
                found[name] = array.reshape(segments.shape[0], slots, *x.shape[1:])
                continue
            array = np.zeros((*segments.shape, *x.shape[2:]), np.float32)
            array[row, column] = x[example, place]
            if "token_positions" in batch:
                array = array[np.arange(len(array))[:, None], batch["token_positions"]]
            found[name] = array
        return found


def replayed(model: Model, run: Run) -> ReplayedModel:
    """The model with the artefact's forward pass."""
    return ReplayedModel(**vars(portable(model)), run=run)


def random_inputs(model: Model) -> Arrays:
    """Random ids of random lengths, always the same, for a model without data."""
    config, rng = model.encoder.config, np.random.default_rng(0)
    length = min(LONGEST, config.usable_positions or LONGEST)
    shape = (ROWS // 2, 2, length) if model.heads[MAIN].kind == "multiple-choice" else (ROWS, length)
    mask = np.arange(length) < rng.integers(1, length + 1, (*shape[:-1], 1))
    ids = rng.integers(0, config.vocab_size, shape)
    ids = np.where(ids == config.pad_token_id, (ids + 1) % config.vocab_size, ids)  # padding has no position in RoBERTa
    types = rng.integers(0, max(1, config.type_vocab_size), shape)
    inputs = {"input_ids": np.where(mask, ids, config.pad_token_id), "attention_mask": mask, "token_type_ids": types}
    return {name: inputs[name].astype(np.int64) for name in input_names(model)}


def difference(model: Model, found: Arrays, expected: Arrays, mask: np.ndarray) -> dict[str, float]:
    """How far the outputs of an artefact are from those of `jaxft.forward` for the same inputs, on real tokens.

    Args:
      found, expected: outputs by name; other expected ones are ignored.
      mask: the attention mask of the inputs.

    Returns:
      `largest`, the largest difference, and `relative`, the same divided by the largest output of its kind.
    """
    largest = relative = 0.0
    for name, x in found.items():
        mine, theirs = (y if name in forward.of_rows(model) else y[mask == 1] for y in (x, expected[name]))
        far = float(np.abs(mine - theirs).max(initial=0))
        largest, relative = max(largest, far), max(relative, far / max(float(np.abs(theirs).max(initial=0)), 1e-30))
    return {"largest": largest, "relative": relative}
