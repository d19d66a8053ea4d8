"""A model as an ONNX graph."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import onnx
from onnx import helper

from jaxft.core import tree
from jaxft.core.tree import Params
from jaxft.deploy import function
from jaxft.deploy.onnx.convert import converted
from jaxft.deploy.onnx.elementwise import cast
from jaxft.deploy.onnx.fusions import RULES
from jaxft.deploy.onnx.graph import TYPES, Graph, Node, Shape, Value
from jaxft.models.model import Model

OPSET = 20  # the first with Gelu; onnxruntime 1.17 and newer
IR_VERSION = 9  # of the file format, which came with this opset


def model_graph(model: Model, params: Params, dtype: str = "float32") -> onnx.ModelProto:
    """The forward pass of a model for any batch and length.

    Args:
      model, params: from `load`.
      dtype: of activations, matrix products and their weights: float32 or float16. Norms and softmax are float32.

    Returns:
      A graph with the int64 inputs `function.input_names` and the float32 outputs `function.output_names`. Its weights have
      the names of the checkpoint's tensors; kernels are stored as [in, out], the transpose of PyTorch's.

    Raises:
      UserError: for an operation that is not converted.
    """
    model, params = function.portable(model, dtype), function.per_layer(model, params)
    outputs = function.output_names(model)
    jaxpr = function.traced(model, params, outputs)
    graph = Graph(_weights(model, params), RULES)
    leaves = [graph.constant(x) for x in jax.tree.leaves(params)]
    first = len(leaves)
    inputs = [
        graph.input(name, tuple(v.aval.shape), np.int64)
        for name, v in zip(function.input_names(model), jaxpr.jaxpr.invars[first:], strict=True)
    ]
    values = converted(graph, jaxpr.jaxpr, jaxpr.consts, [*leaves, *(cast(graph, x, np.int32) for x in inputs)])
    shapes = [v.aval.shape for v in jaxpr.jaxpr.outvars]
    values = [cast(graph, graph.full(x, shape), np.float32) for x, shape in zip(values, shapes, strict=True)]
    return _proto(graph, inputs, dict(zip(outputs, values, strict=True)))


def _weights(model: Model, params: Params) -> dict[str, np.ndarray]:
    """The parameters of single layers by Hugging Face's names; they are views of the stacks."""
    naming, found = model.naming, {}
    for path, leaf in tree.flatten(params).items():
        for i, name in enumerate(tree.names(path)):
            found[naming.hf_name(name)] = leaf[i] if tree.is_stacked(path) else leaf
    return found


def _proto(graph: Graph, inputs: list[Value], outputs: Mapping[str, Value]) -> onnx.ModelProto:
    nodes = _used(graph, outputs.values())
    names = {x.name for node in nodes for x in node.inputs}
    initialisers = [_tensor(name, x) for name, x in graph.initialisers.items() if name in names]
    protos = [helper.make_node(x.op, [i.name for i in x.inputs], [x.output.name], **x.attributes) for x in nodes]
    protos += [helper.make_node("Identity", [x.name], [name]) for name, x in outputs.items()]
    proto = helper.make_graph(
        protos,
        "jaxft",
        [_info(x.name, x.shape, x.dtype) for x in inputs],
        [_info(name, x.shape, x.dtype) for name, x in outputs.items()],
        initialisers,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION, producer_name="jaxft")


def _used(graph: Graph, outputs: Any) -> list[Node]:
    """The nodes that the outputs depend on, in the order in which they were added."""
    needed = {x.name for x in outputs}
    found = []
    for name, node in reversed(graph.nodes.items()):
        if name in needed:
            found.append(node)
            needed |= {x.name for x in node.inputs}
    return found[::-1]


def _info(name: str, shape: Shape, dtype: np.dtype) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TYPES[dtype.name], [x if isinstance(x, int) else str(x) for x in shape])


def _tensor(name: str, array: np.ndarray) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=TYPES[array.dtype.name], dims=array.shape)
    tensor.raw_data = np.ascontiguousarray(array).tobytes()
    return tensor
