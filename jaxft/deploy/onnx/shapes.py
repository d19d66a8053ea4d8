"""Operations that move elements, or reduce axes."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from jaxft.deploy.onnx.elementwise import cast
from jaxft.deploy.onnx.graph import Graph, Shape, Value, is_known, same

LAZY = ("broadcast_in_dim", "reshape", "squeeze")  # of constants, these give views
REDUCTIONS = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin", "reduce_prod": "ReduceProd"}


def vector(graph: Graph, numbers: Sequence[int]) -> Value:
    """Whole numbers as an input of a node."""
    return graph.constant(np.asarray(numbers, np.int64))


def unsqueezed(graph: Graph, value: Value, axes: Sequence[int]) -> Value:
    """The value with axes of size 1 at these places of the result."""
    if not axes:
        return value
    if value.array is not None:
        return graph.constant(np.expand_dims(value.array, tuple(axes)))
    kept = iter(value.shape)
    shape = tuple(1 if i in axes else next(kept) for i in range(len(value.shape) + len(axes)))
    return graph.add("Unsqueeze", [value, vector(graph, axes)], shape, value.dtype)


def transposed(graph: Graph, value: Value, order: Sequence[int]) -> Value:
    """The value with its axes in another order."""
    if tuple(order) == tuple(range(len(order))):
        return value
    if value.array is not None:
        return graph.constant(value.array.transpose(order))
    return graph.add("Transpose", [value], tuple(value.shape[i] for i in order), value.dtype, perm=[int(i) for i in order])


def reshaped(graph: Graph, value: Value, shape: Shape) -> Value:
    """A value that is stored with its logical shape, in another shape."""
    if same(value.shape, shape):
        return value
    if value.array is not None and is_known(shape):
        return graph.constant(value.array.reshape(shape))
    if (shorter := _without_rows(graph, value, shape)) is not None:
        return shorter
    # 0 copies the size of the same axis, -1 is what is left: only other symbolic sizes must be computed.
    before = [str(x) for x in value.shape]
    sizes = [0 if not isinstance(x, int) and before[i : i + 1] == [str(x)] else x for i, x in enumerate(shape)]
    unknown = [i for i, x in enumerate(sizes) if not isinstance(x, int | np.integer)]
    if unknown:
        sizes[unknown[-1]] = -1
    return graph.add("Reshape", [value, graph.sizes(sizes)], shape, value.dtype)


def _without_rows(graph: Graph, value: Value, shape: Shape) -> Value | None:
    """The value without a detour over another shape, such as the rows [batch * sequence, ...] of a product."""
    node = graph.producer(value)
    if node is None:
        return None
    if node.op == "Reshape":
        return reshaped(graph, node.inputs[0], shape)
    rows = graph.producer(node.inputs[0]) if node.op == "MatMul" and len(node.inputs[1].shape) == 2 else None
    if rows is None or rows.op != "Reshape":
        return None
    x, kernel = rows.inputs[0], node.inputs[1]
    if not same(shape, (*x.shape[:-1], kernel.shape[1])) or not same(x.shape[-1:], kernel.shape[:1]):
        return None
    return graph.add("MatMul", [x, kernel], shape, value.dtype)


def row(graph: Graph, value: Value, index: int) -> Value:
    """A row of the first axis."""
    if value.array is not None:
        return graph.constant(value.array[0 if value.shape[0] == 1 else index])
    return graph.add("Gather", [value, graph.constant(np.int64(index))], value.shape[1:], value.dtype, axis=0)


def stacked(graph: Graph, values: Sequence[Value], shape: Shape) -> Value:
    """Values of one logical shape, one after the other along a new first axis."""
    parts = [unsqueezed(graph, graph.full(x, shape), (0,)) for x in values]
    return graph.add("Concat", parts, (len(parts), *shape), values[0].dtype, axis=0)


def _reshape(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    value, logical = inputs[0], equation.invars[0].aval.shape
    shape = params["new_sizes"]
    if value.array is not None and value.array.size == 1:
        return graph.constant(value.array.reshape((1,) * len(shape)))
    return reshaped(graph, graph.full(value, logical), shape)


def _broadcast(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    kept = params["broadcast_dimensions"]
    return unsqueezed(graph, inputs[0], [i for i in range(len(params["shape"])) if i not in kept])


def _transpose(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    return transposed(graph, inputs[0], params["permutation"])


def _squeeze(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    value, axes = inputs[0], params["dimensions"]
    shape = tuple(x for i, x in enumerate(value.shape) if i not in axes)
    if value.array is not None:
        return graph.constant(value.array.reshape(shape))
    return graph.add("Squeeze", [value, vector(graph, axes)], shape, value.dtype)


def sliced(graph: Graph, value: Value, axis: int, start: Any, stop: Any, step: int = 1, size: Any = None) -> Value:
    """A part of one axis; bounds may be symbolic."""
    size = stop - start if size is None else size
    shape = (*value.shape[:axis], size, *value.shape[axis + 1 :])
    bounds = [graph.sizes([x]) for x in (start, stop)]
    return graph.add("Slice", [value, *bounds, vector(graph, [axis]), vector(graph, [step])], shape, value.dtype)


def _slice(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    value, logical, out = inputs[0], equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    steps = params["strides"] or [1] * len(logical)
    for axis, (start, stop, step) in enumerate(zip(params["start_indices"], params["limit_indices"], steps, strict=True)):
        if same((start, stop, step), (0, logical[axis], 1)):
            continue
        expanded = (*value.shape[:axis], logical[axis], *value.shape[axis + 1 :])
        value = sliced(graph, graph.full(value, expanded), axis, start, stop, step, out[axis])
    return value


def _split(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> list[Value]:
    axis = params["axis"]
    value = graph.full(inputs[0], equation.invars[0].aval.shape)
    edges = np.cumsum([0, *params["sizes"]]).tolist()
    return [sliced(graph, value, axis, a, b) for a, b in pairwise(edges)]


def _concatenate(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    parts = [graph.full(x, v.aval.shape) for x, v in zip(inputs, equation.invars, strict=True)]
    parts = [x for x in parts if 0 not in [size for size in x.shape if isinstance(size, int)]]
    shape, axis = equation.outvars[0].aval.shape, int(params["dimension"])
    return parts[0] if len(parts) == 1 else graph.add("Concat", parts, shape, parts[0].dtype, axis=axis)


def _iota(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    """Stored along its own axis only."""
    shape, axis, dtype = params["shape"], params["dimension"], params["dtype"]
    others = [i for i in range(len(shape)) if i != axis]
    if is_known((shape[axis],)):
        return unsqueezed(graph, graph.constant(np.arange(shape[axis]), dtype), others)
    bounds = [graph.constant(np.int64(0)), graph.dimension(shape[axis]), graph.constant(np.int64(1))]
    numbers = graph.add("Range", bounds, (shape[axis],), np.int64)
    return unsqueezed(graph, cast(graph, numbers, dtype), others)


def _dimension(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    return cast(graph, graph.dimension(params["dim"]), equation.outvars[0].aval.dtype)


def _platform(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    """The branch for devices that are not named."""
    return graph.constant(np.int32(params["platforms"].index(None)))


def _reduction(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    value, logical, axes = inputs[0], equation.invars[0].aval.shape, params["axes"]
    value = graph.full(value, tuple(logical[i] if i in axes else x for i, x in enumerate(value.shape)))
    shape = tuple(x for i, x in enumerate(value.shape) if i not in axes)
    op = REDUCTIONS[equation.primitive.name]
    return graph.add(op, [value, vector(graph, axes)], shape, value.dtype, keepdims=0)


def _cumulative(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    value = graph.full(inputs[0], equation.invars[0].aval.shape)
    axis = graph.constant(np.int64(params["axis"]))
    return graph.add("CumSum", [value, axis], value.shape, value.dtype, reverse=int(params["reverse"]))


CONVERTERS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(REDUCTIONS, _reduction),
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "slice": _slice,
    "split": _split,
    "concatenate": _concatenate,
    "iota": _iota,
    "dim_as_value": _dimension,
    "platform_index": _platform,
    "cumsum": _cumulative,
}
