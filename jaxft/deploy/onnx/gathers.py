"""Lookups: rows of tables, and elements of each row (`jnp.take` and `jnp.take_along_axis`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.lax import GatherScatterMode

from jaxft.core.errors import UserError
from jaxft.deploy.onnx.elementwise import apply, cast
from jaxft.deploy.onnx.graph import Graph, Value
from jaxft.deploy.onnx.shapes import transposed, unsqueezed


def _gather(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    """One index along one axis of the operand; the other axes are whole, or go along with those of the indices.

    Raises:
      UserError: for any other lookup.
    """
    numbers, (operand, indices) = params["dimension_numbers"], inputs
    of_operand, of_indices = (v.aval.shape for v in equation.invars)
    axes, batched = numbers.start_index_map, numbers.operand_batching_dims
    whole = [i for i in range(len(of_operand)) if i not in (*axes, *batched)]
    is_whole = all(str(params["slice_sizes"][i]) == str(of_operand[i]) for i in whole)
    if len(axes) != 1 or numbers.collapsed_slice_dims != axes or not is_whole or of_indices[-1] != 1:
        raise UserError(f"ONNX: a lookup of {params['slice_sizes']} in {of_operand} is not supported")
    axis, out = axes[0], equation.outvars[0].aval.shape
    operand = graph.full(operand, of_operand)
    index = _without_last(graph, indices)
    index, inside = _within(graph, index, of_operand[axis], params["mode"])
    places = of_indices[:-1]  # the axes of the indices
    of_batch = numbers.start_indices_batching_dims
    rest = [i for i in range(len(places)) if i not in of_batch]
    first = index.array.reshape(-1)[:1] if index.array is not None and index.array.size == 1 else None
    if batched and first is not None and [places[i] for i in rest] == [1]:  # the same place in every row
        shape = tuple(1 if i == axis else x for i, x in enumerate(of_operand))
        found = graph.add("Gather", [operand, graph.constant(first, np.int64)], shape, operand.dtype, axis=axis)
        sources = {**dict(zip(of_batch, batched, strict=True)), rest[0]: axis}
        inside = None
    elif batched:
        if len(rest) != 1:
            raise UserError(f"ONNX: a lookup of {places} places in each row is not supported")
        sources = {**dict(zip(of_batch, batched, strict=True)), rest[0]: axis}
        shape = tuple(places[rest[0]] if i == axis else x for i, x in enumerate(of_operand))
        aligned = transposed(graph, index, sorted(range(len(places)), key=sources.__getitem__))
        aligned = unsqueezed(graph, aligned, whole)
        found = graph.add("GatherElements", [operand, graph.full(aligned, shape)], shape, operand.dtype, axis=axis)
    else:
        shape = (*of_operand[:axis], *index.shape, *of_operand[axis + 1 :])
        found = graph.add("Gather", [operand, index], shape, operand.dtype, axis=axis)
        sources = {i: axis + i for i in range(len(places))}
        whole = [i if i < axis else i + len(places) - 1 for i in whole]
    # The axes of the result: those of the operand at `offset_dims`, those of the indices elsewhere.
    from_whole, from_places = iter(whole), iter(range(len(places)))
    order = [next(from_whole) if i in numbers.offset_dims else sources[next(from_places)] for i in range(len(out))]
    found = transposed(graph, found, order)
    if inside is None:
        return found
    inside = unsqueezed(graph, inside, list(numbers.offset_dims))
    fill = graph.constant(params["fill_value"], found.dtype)
    return apply(graph, "Where", [inside, found, fill], found.dtype)


def _within(graph: Graph, index: Value, size: Any, mode: Any) -> tuple[Value, Value | None]:
    """(indices within the axis, where they were so, if other places are filled)."""
    if mode == GatherScatterMode.PROMISE_IN_BOUNDS or (index.array is not None and not index.array.any()):
        return index, None  # an axis has at least one element
    zero = graph.constant(0, index.dtype)
    last = cast(graph, graph.dimension(size - 1), index.dtype)
    clipped = apply(graph, "Min", [apply(graph, "Max", [index, zero], index.dtype), last], index.dtype)
    if mode == GatherScatterMode.CLIP:
        return clipped, None
    return clipped, apply(graph, "Equal", [index, clipped], bool)


def _without_last(graph: Graph, value: Value) -> Value:
    """The indices without their last axis, of size 1."""
    if value.array is not None:
        return graph.constant(value.array.reshape(value.shape[:-1]))
    return graph.add("Squeeze", [value, graph.constant(np.asarray([-1], np.int64))], value.shape[:-1], value.dtype)


CONVERTERS: dict[str, Callable[..., Any]] = {"gather": _gather}
