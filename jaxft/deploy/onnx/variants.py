"""Smaller variants of a graph: int8 products, and weights in bfloat16."""

import logging
import warnings
from pathlib import Path

import ml_dtypes
import onnx
from onnx import helper, numpy_helper


def quantised(source: Path, target: Path) -> None:
    """Write a graph with the kernels and tables of `source` in int8, by onnxruntime's dynamic quantisation.

    Kernels have a scale for each output (per channel); activations are quantised in each product, by their range there.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises a preparation that a graph with known shapes does not need
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            large = source.with_name(f"{source.name}.data").exists()
            quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8, use_external_data_format=large)
    finally:
        logging.disable(before)


def with_bfloat16_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with kernels and tables in bfloat16, half the bytes; it widens them, and computes in float32."""
    casts = []
    for tensor in proto.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16)
        tensor.name, tensor.data_type, tensor.raw_data = f"{name}.bfloat16", onnx.TensorProto.BFLOAT16, values.tobytes()
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto
