"""The graph under construction: values, nodes without repetitions, weights by name, and the arithmetic of dimensions."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from jaxft.core.errors import UserError

TYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "float16": onnx.TensorProto.FLOAT16,
    "bfloat16": onnx.TensorProto.BFLOAT16,
    "float64": onnx.TensorProto.DOUBLE,
    "int64": onnx.TensorProto.INT64,
    "int32": onnx.TensorProto.INT32,
    "uint32": onnx.TensorProto.UINT32,
    "int8": onnx.TensorProto.INT8,
    "uint8": onnx.TensorProto.UINT8,
    "bool": onnx.TensorProto.BOOL,
}
Shape = tuple[Any, ...]  # of ints and of symbolic dimensions of jax.export


@dataclass(frozen=True, eq=False)
class Value:
    """An array of the graph.

    Attributes:
      name: of the tensor; empty for a constant that no node has used yet.
      shape: the shape as stored. It has the rank of the logical shape, and may be 1 where that is larger: nodes that
        broadcast read it as it is, and `Graph.full` expands it for the others.
      dtype: of numpy or ml_dtypes.
      array: the numbers of a constant, of this shape.
    """

    name: str
    shape: Shape
    dtype: np.dtype
    array: np.ndarray | None = None

    @property
    def is_constant(self) -> bool:
        """Whether its numbers are known."""
        return self.array is not None


@dataclass(frozen=True)
class Node:
    """One operation with one output."""

    op: str
    inputs: tuple[Value, ...]
    attributes: Mapping[str, Any]
    output: Value


def same(a: Shape, b: Shape) -> bool:
    """Whether two shapes are the same for all values of their symbolic dimensions."""
    return len(a) == len(b) and all(str(x) == str(y) for x, y in zip(a, b, strict=True))


def is_known(shape: Shape) -> bool:
    """Whether a shape has no symbolic dimension."""
    return all(isinstance(x, int | np.integer) for x in shape)


class Graph:
    """Nodes and weights; an operation that the graph has already is not added again.

    Args of the constructor:
      weights: arrays by the names that they shall have, and views of these have as well.
      rules: by the operation that they may replace: (graph, inputs, attributes) -> another value, or None.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], rules: Mapping[str, Sequence[Any]]) -> None:
        self._rules = rules
        self.nodes: dict[str, Node] = {}  # by the name of the output, in an order in which they can run
        self.initialisers: dict[str, np.ndarray] = {}
        self._dimensions: dict[str, Value] = {}
        self._seen: dict[Any, Value] = {}
        self._weights = {_place(x): name for name, x in weights.items()}
        self._kept = list(weights.values())  # a place in memory means an array only while the array exists
        self._counts: dict[str, int] = {}

    def constant(self, array: Any, dtype: Any = None) -> Value:
        """A constant; its array is not copied."""
        array = np.asarray(array, dtype)
        return Value("", array.shape, array.dtype, array)

    def name_like(self, array: np.ndarray, other: np.ndarray) -> None:
        """Give a constant computed from a weight, such as its rounding to another type, the weight's name."""
        if name := self._weights.get(_place(other)):
            self._weights[_place(array)] = name
            self._kept.append(array)

    def known_name(self, array: np.ndarray) -> str | None:
        """The name of the weight that this array is, or a view of."""
        return self._weights.get(_place(array))

    def add(self, op: str, inputs: Sequence[Value], shape: Shape, dtype: Any, **attributes: Any) -> Value:
        """The output of an operation, stored with this shape; attributes are those of ONNX."""
        named = tuple(self._named(x) for x in inputs)
        key = (op, tuple(x.name for x in named), tuple(sorted((k, str(v)) for k, v in attributes.items())))
        if key not in self._seen:
            for rule in self._rules.get(op, ()):
                if (found := rule(self, named, attributes)) is not None:
                    self._seen[key] = found
                    return found
            output = Value(self._new_name(op), tuple(shape), np.dtype(dtype))
            self.nodes[output.name] = Node(op, named, attributes, output)
            self._seen[key] = output
        return self._seen[key]

    def input(self, name: str, shape: Shape, dtype: Any) -> Value:
        """An input of the graph; its symbolic dimensions get their values from it unless an earlier input has them."""
        value = Value(name, tuple(shape), np.dtype(dtype))
        for axis, size in enumerate(shape):
            if not isinstance(size, int) and str(size) not in self._dimensions:
                sizes = self.add("Shape", [value], (len(shape),), np.int64)
                self._dimensions[str(size)] = self.add("Gather", [sizes, self.constant(np.int64(axis))], (), np.int64)
        return value

    def type_of(self, value: Value) -> int:
        """ONNX's number of the value's type."""
        return TYPES[value.dtype.name]

    def producer(self, value: Value) -> Node | None:
        """The node of which a value is the output; None for inputs and constants."""
        return self.nodes.get(value.name)

    def full(self, value: Value, shape: Shape) -> Value:
        """A value stored with its logical shape."""
        if same(value.shape, shape):
            return value
        if value.array is not None and is_known(shape):
            return self.constant(np.broadcast_to(value.array, shape))
        return self.add("Expand", [value, self.sizes(shape)], shape, value.dtype)

    def dimension(self, size: Any) -> Value:
        """The value of a dimension, int64 []."""
        if isinstance(size, int | np.integer):
            return self.constant(np.int64(size))
        return self._evaluated(ast.parse(str(size).replace("^", "**"), mode="eval").body)

    def sizes(self, shape: Sequence[Any]) -> Value:
        """A shape as a value, int64 [rank]."""
        if is_known(tuple(shape)):
            return self.constant(np.asarray(shape, np.int64))
        zero = self.constant(np.zeros(1, np.int64))
        parts = [
            self.constant(np.asarray([x], np.int64))
            if isinstance(x, int | np.integer)
            else self.add("Unsqueeze", [self.dimension(x), zero], (1,), np.int64)
            for x in shape
        ]
        return self.add("Concat", parts, (len(parts),), np.int64, axis=0)

    def _evaluated(self, node: ast.expr) -> Value:
        """The value of an expression of dimensions, as jax.export prints it."""
        match node:
            case ast.Name(id=name):
                return self._dimensions[name]
            case ast.Constant(value=int(number)):
                return self.constant(np.int64(number))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._arithmetic("Mul", [self.constant(np.int64(-1)), self._evaluated(operand)])
            case ast.BinOp(op=ast.Pow(), left=left, right=ast.Constant(value=int(power))):
                base = self._evaluated(left)
                return base if power == 1 else self._arithmetic("Mul", [self._evaluated(left)] * power)
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _ARITHMETIC:
                return self._arithmetic(_ARITHMETIC[type(op)], [self._evaluated(left), self._evaluated(right)])
            case ast.Call(func=ast.Name(id=name), args=args) if name in _FUNCTIONS:
                return self._arithmetic(_FUNCTIONS[name], [self._evaluated(x) for x in args])
        raise UserError(f"ONNX: the dimension {ast.unparse(node)} is not supported")

    def _arithmetic(self, op: str, values: Sequence[Value]) -> Value:
        result = values[0]
        for other in values[1:]:
            result = self.add(op, [result, other], (), np.int64)
        return result

    def _named(self, value: Value) -> Value:
        """The value with a name: a constant becomes an initialiser, once."""
        array = value.array
        if value.name or array is None:
            return value
        key = _place(array) if array.nbytes > 64 else (array.shape, array.dtype.name, array.tobytes())
        if key not in self._seen:
            name = self._weights.get(_place(array)) or self._new_name("constant")
            name = name if name not in self.initialisers else self._new_name(f"{name}.view")
            self.initialisers[name] = array
            self._kept.append(array)
            self._seen[key] = Value(name, value.shape, value.dtype, array)
        known = self._seen[key]
        if known.shape != value.shape:  # another view of the same numbers
            return self.add("Reshape", [known, self.sizes(value.shape)], value.shape, value.dtype)
        return known

    def _new_name(self, kind: str) -> str:
        number = self._counts.get(kind, 0)
        self._counts[kind] = number + 1
        return f"{kind}_{number}"


_ARITHMETIC: dict[type, str] = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}
_FUNCTIONS = {"mod": "Mod", "floordiv": "Div", "max": "Max", "min": "Min"}


def _place(array: np.ndarray) -> Any:
    """What views of the same numbers in the same order share: their place in memory, size and steps."""
    steps = [(size, step) for size, step in zip(array.shape, array.strides, strict=True) if size > 1]
    flat = array.flags.c_contiguous
    return array.__array_interface__["data"][0], array.dtype.name, array.size, () if flat else tuple(steps)
