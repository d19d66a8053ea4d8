"""Products of matrices."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxft.deploy.onnx.elementwise import cast
from jaxft.deploy.onnx.graph import Graph, Value
from jaxft.deploy.onnx.shapes import transposed

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _product(graph: Graph, inputs: Sequence[Value], equation: Any, params: Mapping[str, Any]) -> Value:
    """A MatMul if the product is one of matrices, otherwise an Einsum.

    A kernel that is the transposed view of a weight (a decoder tied to the word embeddings) is stored once, and Gemm
    transposes it.
    """
    (left_sum, right_sum), (left_batch, right_batch) = params["dimension_numbers"]
    a, b = (graph.full(x, v.aval.shape) for x, v in zip(inputs, equation.invars, strict=True))
    shape, dtype = equation.outvars[0].aval.shape, equation.outvars[0].aval.dtype
    batch = len(left_batch)
    leading = tuple(left_batch) == tuple(right_batch) == tuple(range(batch))
    matrices = len(a.shape) == len(b.shape) == batch + 2 and len(left_sum) == 1
    narrow = a.dtype  # ONNX has one type for operands and result
    if leading and matrices:
        if left_sum[0] == batch:
            a = transposed(graph, a, [*range(batch), batch + 1, batch])
        if right_sum[0] == batch + 1:
            b = transposed(graph, b, [*range(batch), batch + 1, batch])
        is_view = b.array is not None and not batch and not b.array.flags.c_contiguous
        if is_view and b.array is not None and graph.known_name(b.array.T):
            product = graph.add("Gemm", [a, graph.constant(b.array.T)], shape, narrow, transB=1)
        else:
            product = graph.add("MatMul", [a, b], shape, narrow)
        return cast(graph, product, dtype)
    of_left: dict[int, str] = dict(zip(range(len(a.shape)), LETTERS, strict=False))
    free = iter(LETTERS[len(a.shape) :])
    of_right = {r: of_left[i] for i, r in zip((*left_batch, *left_sum), (*right_batch, *right_sum), strict=True)}
    of_right |= {i: next(free) for i in range(len(b.shape)) if i not in of_right}
    kept = [of_left[i] for i in left_batch]
    kept += [of_left[i] for i in range(len(a.shape)) if i not in (*left_batch, *left_sum)]
    kept += [of_right[i] for i in range(len(b.shape)) if i not in (*right_batch, *right_sum)]
    terms = ("".join(x[i] for i in range(len(x))) for x in (of_left, of_right))
    return cast(graph, graph.add("Einsum", [a, b], shape, narrow, equation=f"{','.join(terms)}->{''.join(kept)}"), dtype)


CONVERTERS: dict[str, Callable[..., Any]] = {"dot_general": _product}
