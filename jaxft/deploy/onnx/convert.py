"""From a jaxpr to nodes: constants are folded, calls and loops are inlined, everything else is a converter by name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.extend import core

from jaxft.core.errors import UserError
from jaxft.deploy.onnx import elementwise, gathers, products, shapes
from jaxft.deploy.onnx.graph import Graph, Value, same

Converter = Callable[[Graph, Sequence[Value], Any, Mapping[str, Any]], Value | list[Value]]
CONVERTERS: dict[str, Converter] = {
    **elementwise.CONVERTERS,
    **shapes.CONVERTERS,
    **products.CONVERTERS,
    **gathers.CONVERTERS,
}
# Calls of a function -> the parameter with its jaxpr.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}


def converted(graph: Graph, jaxpr: Any, constants: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
    """Add the equations of a jaxpr to a graph; returns its outputs.

    Args:
      graph: to add to.
      jaxpr: an open jaxpr, whose shapes may be symbolic.
      constants: the arrays of its constvars.
      inputs: the values of its invars.

    Raises:
      UserError: for an operation that is not converted.
    """
    values: dict[Any, Value] = {v: graph.constant(np.asarray(x)) for v, x in zip(jaxpr.constvars, constants, strict=True)}
    values |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Value:
        return values[atom] if isinstance(atom, core.Var) else graph.constant(np.asarray(atom.val, atom.aval.dtype))

    for equation in jaxpr.eqns:
        found = _equation(graph, equation, [read(x) for x in equation.invars])
        values |= dict(zip(equation.outvars, found, strict=True))
    return [read(x) for x in jaxpr.outvars]


def _equation(graph: Graph, equation: Any, inputs: list[Value]) -> list[Value]:
    name, params = equation.primitive.name, equation.params
    if name in CALLS:
        return _call(graph, params[CALLS[name]], inputs)
    if name == "cond":
        return _branch(graph, params, inputs)
    if name == "scan":
        return _loop(graph, params, inputs)
    if (folded := _folded(graph, equation, inputs)) is not None:
        return folded
    if name not in CONVERTERS:
        raise UserError(f"ONNX: the operation {name} is not supported (jaxft/deploy/onnx/convert.py lists those that are)")
    found = CONVERTERS[name](graph, inputs, equation, params)
    return found if isinstance(found, list) else [found]


def _call(graph: Graph, function: Any, inputs: Sequence[Value]) -> list[Value]:
    inner, constants = (function.jaxpr, function.consts) if hasattr(function, "consts") else (function, ())
    return converted(graph, inner, constants, inputs)


def _branch(graph: Graph, params: Mapping[str, Any], inputs: Sequence[Value]) -> list[Value]:
    """The branch of a condition that is known, such as the one for other platforms than JAX's."""
    if inputs[0].array is None:
        raise UserError("ONNX: a condition that depends on the inputs is not supported")
    return _call(graph, params["branches"][int(inputs[0].array)], inputs[1:])


def _loop(graph: Graph, params: Mapping[str, Any], inputs: Sequence[Value]) -> list[Value]:
    """A scan without its loop: the body once for each step."""
    fixed, carried = _constants_and_carry(params)
    constants, carry, scanned = inputs[:fixed], list(inputs[fixed : fixed + carried]), inputs[fixed + carried :]
    steps = range(params["length"])
    stacks: list[list[Value]] = [[] for _ in range(len(params["jaxpr"].out_avals) - carried)]
    for step in reversed(steps) if params["reverse"] else steps:
        found = _call(graph, params["jaxpr"], [*constants, *carry, *(shapes.row(graph, x, step) for x in scanned)])
        carry = found[:carried]
        for stack, value in zip(stacks, found[carried:], strict=True):
            stack.insert(0 if params["reverse"] else len(stack), value)
    shape = [aval.shape for aval in params["jaxpr"].out_avals[carried:]]
    return [*carry, *(shapes.stacked(graph, stack, x) for stack, x in zip(stacks, shape, strict=True))]


def _constants_and_carry(params: Mapping[str, Any]) -> tuple[int, int]:
    """How many inputs of a scan are constants, and how many it carries on."""
    if "ft_in" in params:  # since jax 0.12
        constants, carry, _ = params["ft_in"].unpack()
        return len(constants), len(carry)
    return params["num_consts"], params["num_carry"]


def _folded(graph: Graph, equation: Any, inputs: Sequence[Value]) -> list[Value] | None:
    """The outputs as constants if all inputs are constants; views of weights remain views, and keep their names."""
    name: str = equation.primitive.name
    arrays: Any = [x.array for x in inputs if x.array is not None]
    if not inputs or len(arrays) < len(inputs) or name in shapes.LAZY:
        return None
    if name in elementwise.CONVERTERS:
        arrays = np.broadcast_arrays(*arrays)
    elif not all(same(x.shape, v.aval.shape) for x, v in zip(inputs, equation.invars, strict=True)):
        return None
    if name == "transpose":
        return [graph.constant(arrays[0].transpose(equation.params["permutation"]))]
    if name == "slice":
        limits = zip(equation.params["start_indices"], equation.params["limit_indices"], strict=True)
        steps = equation.params["strides"] or [1] * arrays[0].ndim
        return [graph.constant(arrays[0][tuple(slice(a, b, s) for (a, b), s in zip(limits, steps, strict=True))])]
    found = equation.primitive.bind(*arrays, **equation.params)
    results = [np.asarray(x) for x in (found if equation.primitive.multiple_results else [found])]
    if name == "convert_element_type":
        if results[0].dtype == arrays[0].dtype:
            results = [arrays[0]]
        graph.name_like(results[0], arrays[0])
    return [graph.constant(x) for x in results]
