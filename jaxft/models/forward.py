"""`forward`: applies a model to numpy arrays, with Hugging Face's names of inputs and outputs."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.core.errors import UserError
from jaxft.core.tree import Params
from jaxft.models.model import MAIN, Model

_ONE_PER_ROW = {"pooler_output", "mean_output", "seq_relationship_logits", "sop_logits"}  # outputs [B, 1, ...]
_ROW_TASKS = {"text-classification", "multiple-choice", "next-sentence-prediction"}  # whose logits are [B, 1, ...]


def forward(model: Model, params: Params, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Applies a model without dropout.

    Args:
      model, params: from `load`.
      inputs: [B, T] `input_ids` (or float `inputs_embeds` [B, T, D]), and optionally `attention_mask`, `token_type_ids` and
        `position_ids` as in Hugging Face; their defaults are ones, zeros and the family's positions. For multiple choice all
        are [B, choices, T].

    Returns:
      numpy float32 arrays by Hugging Face's output names, such as `logits` [B, labels]; a model without a head also returns
      `mean_output` [B, D], the mean of the hidden states of real tokens.

    Raises:
      UserError: for an id outside the vocabulary or a row longer than the model's positions.
    """
    outputs = _forward(model, params, batch_of(model, inputs))
    return {name: np.asarray(x, np.float32) for name, x in outputs_of(model, outputs, inputs).items()}


def batch_of(model: Model, inputs: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Converts Hugging Face's inputs (see `forward`) to the inputs of `Model.apply`, with one example per row."""
    arrays = {name: np.asarray(x) for name, x in inputs.items()}
    if "input_ids" not in arrays and "inputs_embeds" not in arrays:
        raise UserError(f"forward needs input_ids or inputs_embeds, got {', '.join(arrays) or 'nothing'}")
    leading = _leading(arrays)
    arrays = {name: x.reshape(-1, *x.shape[len(leading) - 1 :]) for name, x in arrays.items()}
    shape = _leading(arrays)
    _check_ranges(model, arrays, shape)
    positions = _positions(model, arrays, shape)
    batch = {
        "segment_ids": arrays.get("attention_mask", np.ones(shape)),
        "token_type_ids": arrays.get("token_type_ids", np.zeros(shape)),
        "position_ids": positions,
        "positions": positions,  # used as they are, also where ids are padding
        "first_token": np.zeros((shape[0], 1)),
    }
    batch = {name: jnp.asarray(x, jnp.int32) for name, x in batch.items()}
    if "inputs_embeds" in arrays:
        return batch | {"inputs_embeds": jnp.asarray(arrays["inputs_embeds"], jnp.float32)}
    return batch | {"input_ids": jnp.asarray(arrays["input_ids"], jnp.int32)}


def outputs_of(model: Model, outputs: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Converts the outputs of `Model.apply`, for one example per row, to Hugging Face's shapes."""
    rows = of_rows(model)
    result = {name: x[:, 0] if name in rows else x for name, x in outputs.items()}
    if model.heads[MAIN].kind != "multiple-choice":
        return result
    return {name: x.reshape(_leading(inputs)[:-1]) for name, x in result.items()}


def of_rows(model: Model) -> set[str]:
    """The outputs of whole rows; all others are of tokens."""
    return _ONE_PER_ROW | ({"logits"} if model.heads[MAIN].kind in _ROW_TASKS else set())


def _leading(inputs: Mapping[str, Any]) -> tuple[int, ...]:
    """The leading axes of the inputs: (B, T), or (B, choices, T)."""
    return np.shape(inputs["input_ids"]) if "input_ids" in inputs else np.shape(inputs["inputs_embeds"])[:-1]


def _positions(model: Model, arrays: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Positions counted from 0, int [B, T]; Hugging Face counts them from the padding id in some families."""
    config = model.encoder.config
    if "position_ids" in arrays:
        return np.broadcast_to(arrays["position_ids"] - config.position_offset, shape)
    if config.position_offset and "input_ids" in arrays:
        real = arrays["input_ids"] != config.position_offset - 1
        return np.where(real, np.cumsum(real, axis=1), 0) - 1
    return np.broadcast_to(np.arange(shape[1]), shape)


def _check_ranges(model: Model, arrays: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> None:
    config = model.encoder.config
    limits = {
        "input_ids": (config.vocab_size, "vocabulary"),
        "token_type_ids": (config.type_vocab_size, "type vocabulary"),
        "position_ids": (config.max_positions, "positions"),
    }
    for name, (size, what) in limits.items():
        if name == "token_type_ids" and not size:
            continue  # the family has no token types; Hugging Face also ignores them
        if name in arrays and arrays[name].size and not 0 <= arrays[name].min() <= arrays[name].max() < size:
            raise UserError(f"{name} holds {arrays[name].max()} but the {what} of this model ends at {size - 1}")
    most = config.usable_positions
    if "position_ids" not in arrays and most is not None and shape[1] > most:
        raise UserError(f"rows of {shape[1]} tokens, but this model has {most} positions")


@partial(jax.jit, static_argnames="model")
def _forward(model: Model, params: Params, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return model.apply(params, batch)
