"""Operations of ONNX for what is several in a jaxpr: softmax, layer norm, GELU, means; each is found at its last node.

Runtimes have one kernel for each of these, and read and write their arrays once.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxft.deploy.onnx.graph import Graph, Node, Value

Rule = Callable[[Graph, Sequence[Value], Mapping[str, Any]], Value | None]


def _made_by(graph: Graph, value: Value, op: str) -> Node | None:
    node = graph.producer(value)
    return node if node is not None and node.op == op else None


def _is_number(value: Value, number: float) -> bool:
    return (
        value.array is not None
        and value.array.size == 1
        and math.isclose(float(value.array.reshape(())), number, rel_tol=1e-6)
    )


def _with_number(inputs: Sequence[Value], number: float) -> Value | None:
    """The other operand of an operation with this number."""
    a, b = inputs
    return b if _is_number(a, number) else a if _is_number(b, number) else None


def _last_axis(node: Node | None) -> bool:
    """Whether a node reduces the last axis, and keeps it."""
    return (
        node is not None
        and node.inputs[1].array is not None
        and node.inputs[1].array.tolist() == [len(node.inputs[0].shape) - 1]
        and node.attributes["keepdims"] == 1
    )


def _kept_axes(graph: Graph, inputs: Sequence[Value], attributes: Mapping[str, Any]) -> Value | None:
    """A reduction that keeps its axes."""
    node = graph.producer(inputs[0])
    if node is None or not node.op.startswith("Reduce") or node.attributes["keepdims"]:
        return None
    axes, back = (x.array.tolist() for x in (node.inputs[1], inputs[1]) if x.array is not None)
    if axes != back:
        return None
    shape = tuple(1 if i in axes else x for i, x in enumerate(node.inputs[0].shape))
    return graph.add(node.op, node.inputs, shape, node.output.dtype, keepdims=1)


def _mean(graph: Graph, inputs: Sequence[Value], attributes: Mapping[str, Any]) -> Value | None:
    total = _made_by(graph, inputs[0], "ReduceSum")
    if total is None or not _last_axis(total):
        return None
    size = total.inputs[0].shape[-1]
    if not isinstance(size, int | np.integer) or not _is_number(inputs[1], int(size)):
        return None
    return graph.add("ReduceMean", total.inputs, total.output.shape, total.output.dtype, keepdims=1)


def _unlimited(graph: Graph, inputs: Sequence[Value], attributes: Mapping[str, Any]) -> Value | None:
    """The maximum of x and minus infinity is x."""
    return _with_number(inputs, -math.inf)


def _softmax(graph: Graph, inputs: Sequence[Value], attributes: Mapping[str, Any]) -> Value | None:
    exponential, total = _made_by(graph, inputs[0], "Exp"), _made_by(graph, inputs[1], "ReduceSum")
    if exponential is None or total is None or total.inputs[0] is not inputs[0] or not _last_axis(total):
        return None
    shifted = _made_by(graph, exponential.inputs[0], "Sub")
    highest = shifted and _made_by(graph, shifted.inputs[1], "ReduceMax")
    if shifted is None or highest is None or highest.inputs[0] is not shifted.inputs[0] or not _last_axis(highest):
        return None
    x = shifted.inputs[0]
    return graph.add("Softmax", [x], x.shape, x.dtype, axis=-1)


def _layer_norm(graph: Graph, inputs: Sequence[Value], attributes: Mapping[str, Any]) -> Value | None:
    """(x - mean) * (1 / sqrt(variance + epsilon)) * scale."""
    normed, scale = _made_by(graph, inputs[0], "Mul"), inputs[1]
    if normed is None or scale.array is None or scale.array.ndim != 1:
        return None
    centred, inverse = _made_by(graph, normed.inputs[0], "Sub"), _made_by(graph, normed.inputs[1], "Reciprocal")
    root = inverse and _made_by(graph, inverse.inputs[0], "Sqrt")
    shifted = root and _made_by(graph, root.inputs[0], "Add")
    variance = shifted and _made_by(graph, shifted.inputs[0], "ReduceMean")
    squares = variance and _made_by(graph, variance.inputs[0], "Mul")
    mean = centred and _made_by(graph, centred.inputs[1], "ReduceMean")
    if centred is None or mean is None or squares is None or shifted is None or shifted.inputs[1].array is None:
        return None
    x = centred.inputs[0]
    right = mean.inputs[0] is x and all(y is centred.output for y in squares.inputs)
    if not right or not _last_axis(mean) or not _last_axis(variance) or scale.shape[0] != x.shape[-1]:
        return None
    epsilon = float(shifted.inputs[1].array.reshape(()))
    return graph.add("LayerNormalization", [x, scale], x.shape, x.dtype, axis=-1, epsilon=epsilon)


def _norm_with_bias(graph: Graph, inputs: Sequence[Value], attributes: Mapping[str, Any]) -> Value | None:
    norm, bias = _made_by(graph, inputs[0], "LayerNormalization"), inputs[1]
    if norm is None or len(norm.inputs) != 2 or bias.array is None or bias.shape != norm.inputs[1].shape:
        return None
    return graph.add("LayerNormalization", [*norm.inputs, bias], norm.output.shape, norm.output.dtype, **norm.attributes)


def _gelu(graph: Graph, inputs: Sequence[Value], attributes: Mapping[str, Any]) -> Value | None:
    """0.5 x * (1 + erf(x / sqrt 2))."""
    half, one = _made_by(graph, inputs[0], "Mul"), _made_by(graph, inputs[1], "Add")
    x = half and _with_number(half.inputs, 0.5)
    inner = one and _with_number(one.inputs, 1.0)
    error = inner and _made_by(graph, inner, "Erf")
    scaled = error and _made_by(graph, error.inputs[0], "Mul")
    if x is None or not scaled or _with_number(scaled.inputs, 0.5**0.5) is not x:
        return None
    return graph.add("Gelu", [x], x.shape, x.dtype)


def _gelu_tanh(graph: Graph, inputs: Sequence[Value], attributes: Mapping[str, Any]) -> Value | None:
    """x * 0.5 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    x, half = inputs[0], _made_by(graph, inputs[1], "Mul")
    one = half and _with_number(half.inputs, 0.5)
    sums = one and _made_by(graph, one, "Add")
    inner = sums and _with_number(sums.inputs, 1.0)
    tanh = inner and _made_by(graph, inner, "Tanh")
    scaled = tanh and _made_by(graph, tanh.inputs[0], "Mul")
    bent = scaled and _with_number(scaled.inputs, math.sqrt(2 / math.pi))
    both = bent and _made_by(graph, bent, "Add")
    cubic = both and both.inputs[0] is x and _made_by(graph, both.inputs[1], "Mul")
    cube = cubic and _with_number(cubic.inputs, 0.044715)
    third = cube and _made_by(graph, cube, "Mul")
    square = third and third.inputs[1] is x and _made_by(graph, third.inputs[0], "Mul")
    if not square or any(y is not x for y in square.inputs):
        return None
    return graph.add("Gelu", [x], x.shape, x.dtype, approximate="tanh")


def _cast_back(graph: Graph, inputs: Sequence[Value], attributes: Mapping[str, Any]) -> Value | None:
    """Nothing, for a value that was widened to float32 and is rounded to its own type again."""
    wide = _made_by(graph, inputs[0], "Cast")
    if wide is None or wide.output.dtype != np.float32:
        return None
    narrow = wide.inputs[0]
    return narrow if graph.type_of(narrow) == attributes["to"] and narrow.dtype.itemsize == 2 else None


RULES: dict[str, list[Rule]] = {
    "Unsqueeze": [_kept_axes],
    "Max": [_unlimited],
    "Div": [_mean, _softmax],
    "Mul": [_layer_norm, _gelu, _gelu_tanh],
    "Add": [_norm_with_bias],
    "Cast": [_cast_back],
}
