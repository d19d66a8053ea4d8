"""Operations on each element, which broadcast in ONNX by themselves."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxft.core.errors import UserError
from jaxft.deploy.onnx.graph import TYPES, Graph, Shape, Value

SAME_TYPE = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "neg": "Neg",
    "abs": "Abs",
    "sign": "Sign",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
    "erf": "Erf",
    "logistic": "Sigmoid",
    "sin": "Sin",
    "cos": "Cos",
    "floor": "Floor",
    "ceil": "Ceil",
    "pow": "Pow",
    "and": "And",
    "or": "Or",
    "xor": "Xor",
    "not": "Not",
}
COMPARISONS = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}
IDENTITIES = ("stop_gradient", "optimization_barrier", "copy", "copy_p", "sharding_constraint", "reduce_precision")


def apply(graph: Graph, op: str, inputs: Sequence[Value], dtype: Any, **attributes: Any) -> Value:
    """An operation on each element of arrays of one logical shape, or numbers."""
    shape = broadcast([x.shape for x in inputs])
    return graph.add(op, [_without_ones(graph, x) for x in inputs], shape, dtype, **attributes)


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The stored shape of the result of an operation on each element."""
    rank = max(map(len, shapes))
    columns = zip(*((1,) * (rank - len(x)) + tuple(x) for x in shapes), strict=True)
    return tuple(next((size for size in sizes if not (isinstance(size, int) and size == 1)), 1) for sizes in columns)


def cast(graph: Graph, value: Value, dtype: Any) -> Value:
    """The value in another type."""
    if value.dtype == np.dtype(dtype):
        return value
    return graph.add("Cast", [value], value.shape, dtype, to=TYPES[np.dtype(dtype).name])


def _without_ones(graph: Graph, value: Value) -> Value:
    """A constant without its leading axes of size 1, so that a vector is stored as a vector."""
    if value.array is None or not value.shape or value.shape[0] != 1:
        return value
    first = next((i for i, size in enumerate(value.shape) if size != 1), len(value.shape))
    return graph.constant(value.array.reshape(value.shape[first:]))


def _same_type(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    name, dtype = equation.primitive.name, equation.outvars[0].aval.dtype
    if name in ("and", "or", "xor", "not") and dtype.name != "bool":
        raise UserError(f"ONNX: the operation {name} on {dtype} is not supported")
    return apply(graph, SAME_TYPE[name], inputs, dtype)


def _comparison(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    return apply(graph, COMPARISONS[equation.primitive.name], inputs, bool)


def _not_equal(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    return apply(graph, "Not", [apply(graph, "Equal", inputs, bool)], bool)


def _square(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    return apply(graph, "Mul", [inputs[0], inputs[0]], inputs[0].dtype)


def _integer_power(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    result, power = inputs[0], params["y"]
    for _ in range(abs(power) - 1):
        result = apply(graph, "Mul", [result, inputs[0]], result.dtype)
    return result if power > 0 else apply(graph, "Reciprocal", [result], result.dtype)


def _inverse_root(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    dtype = inputs[0].dtype
    return apply(graph, "Reciprocal", [apply(graph, "Sqrt", inputs, dtype)], dtype)


def _log1p(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    dtype = inputs[0].dtype
    return apply(graph, "Log", [apply(graph, "Add", [inputs[0], graph.constant(1, dtype)], dtype)], dtype)


def _expm1(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    dtype = inputs[0].dtype
    return apply(graph, "Sub", [apply(graph, "Exp", inputs, dtype), graph.constant(1, dtype)], dtype)


def _select(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    which, *cases = inputs
    if which.dtype != bool or len(cases) != 2:
        raise UserError("ONNX: a choice among more than two arrays is not supported")
    if which.array is not None and which.array.size == 1:
        return cases[int(which.array.reshape(()))]
    return apply(graph, "Where", [which, cases[1], cases[0]], cases[0].dtype)


def _clamp(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    low, x, high = inputs
    return apply(graph, "Min", [apply(graph, "Max", [x, low], x.dtype), high], x.dtype)


def _convert(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    return cast(graph, inputs[0], params["new_dtype"])


def _identity(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> list[Value]:
    return list(inputs)


CONVERTERS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(SAME_TYPE, _same_type),
    **dict.fromkeys(COMPARISONS, _comparison),
    **dict.fromkeys(IDENTITIES, _identity),
    "ne": _not_equal,
    "square": _square,
    "integer_pow": _integer_power,
    "rsqrt": _inverse_root,
    "log1p": _log1p,
    "expm1": _expm1,
    "select_n": _select,
    "clamp": _clamp,
    "convert_element_type": _convert,
}
