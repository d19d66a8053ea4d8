"""The forward pass of a model as a function of Hugging Face's inputs that JAX can trace for any batch and length."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxft.core import tree
from jaxft.core.tree import Params
from jaxft.models import forward
from jaxft.models.encoder.config import Policy
from jaxft.models.model import MAIN, Model

Array = jax.Array
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def input_names(model: Model) -> tuple[str, ...]:
    """The inputs that the model has; not every family has token types."""
    return INPUTS if model.encoder.config.type_vocab_size else INPUTS[:2]


def input_shape(model: Model) -> tuple[str, ...]:
    """The names of the dimensions of every input."""
    return ("batch", "choices", "sequence") if model.heads[MAIN].kind == "multiple-choice" else ("batch", "sequence")


def portable(model: Model, dtype: str = "float32") -> Model:
    """The model as it is computed on any device: plain attention, and layers that are not in a loop."""
    return replace(model, policy=Policy(dtype=dtype, unroll=model.encoder.config.applied_layers, attention="plain"))


def per_layer(model: Model, params: Params) -> Params:
    """The parameters with each layer a stack of its own, numpy float32."""
    return tree.recut(jax.tree.map(np.asarray, params), range(model.encoder.config.parameter_layers))


def output_names(model: Model) -> list[str]:
    """The outputs of the artefact, with transformers' names; `mean_output` is the mean of the last hidden states.

    A pooler that was not trained is left out.
    """
    ids = jax.ShapeDtypeStruct((1,) * len(input_shape(model)), np.int32)
    inputs = dict.fromkeys(input_names(model), ids)
    names = list(jax.eval_shape(as_function(model), model.abstract(), inputs))
    fresh = model.report.new if model.report else ()
    untrained = any(name.startswith("encoder.pooler.") for name in fresh)
    return [name for name in names if not (untrained and name == "pooler_output")]


def as_function(model: Model) -> Callable[[Params, dict[str, Array]], dict[str, Array]]:
    """(parameters, inputs by `input_names`, int32) -> outputs as `jaxft.forward` has them."""

    def function(params: Params, inputs: dict[str, Array]) -> dict[str, Array]:
        length = inputs["input_ids"].shape[-1]
        rows = {name: x.reshape(-1, length) for name, x in inputs.items()}
        batch = {
            "input_ids": rows["input_ids"],
            "segment_ids": rows["attention_mask"],
            "token_type_ids": rows.get("token_type_ids", jnp.zeros((), jnp.int32)),
            "first_token": jnp.zeros((rows["input_ids"].shape[0], 1), jnp.int32),
        }
        positions = _positions(model, rows["input_ids"])
        outputs = model.apply(params, batch | {"position_ids": positions, "positions": positions})
        return forward.outputs_of(model, outputs, inputs)

    return function


def _positions(model: Model, ids: Array) -> Array:
    """Positions counted from 0, int32 [B, T]; RoBERTa and its relatives skip padding (see `forward.batch_of`)."""
    offset = model.encoder.config.position_offset
    if offset:
        real = (ids != offset - 1).astype(jnp.int32)
        return jnp.where(real == 1, jnp.cumsum(real, axis=1), 0) - 1
    return jnp.broadcast_to(jnp.arange(ids.shape[1], dtype=jnp.int32)[None], ids.shape)


def traced(model: Model, params: Any, names: list[str]) -> Any:
    """The jaxpr of the forward pass for any batch and length; its inputs are the leaves of `params`, then the inputs."""
    dimensions = export.symbolic_shape(", ".join(input_shape(model)))
    ids = jax.ShapeDtypeStruct(dimensions, np.int32)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    function = as_function(model)

    def chosen(params: Params, *inputs: Array) -> list[Array]:
        outputs = function(params, dict(zip(input_names(model), inputs, strict=True)))
        return [outputs[name] for name in names]

    return jax.make_jaxpr(chosen)(shapes, *[ids] * len(input_names(model)))
