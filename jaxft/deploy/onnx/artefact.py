"""ONNX as a format of export: writes model.onnx, and opens it again."""

import math
import tempfile
from pathlib import Path
from typing import Any

import onnx
from onnx.helper import tensor_dtype_to_np_dtype

from jaxft.core.tree import Params
from jaxft.deploy.onnx.session import open_session
from jaxft.deploy.onnx.variants import quantised, with_bfloat16_weights
from jaxft.deploy.onnx.write import OPSET, model_graph
from jaxft.deploy.replay import Run
from jaxft.models.model import Model

FILE = "model.onnx"
DTYPES = ("float32", "float16", "bfloat16", "int8")
_LARGEST = 2**31 - 2**24  # bytes of weights in one protobuf message; those of a larger model are a file of their own


def write(model: Model, params: Params, dtype: str, folder: Path) -> tuple[Run, dict[str, Any]]:
    """Write model.onnx to a folder.

    Args:
      model, params: from `load`, without LoRA.
      dtype: one of DTYPES.
      folder: exists.

    Returns:
      The written file as a function, and what export.json says of it.
    """
    import onnxruntime

    if dtype == "int8":
        with tempfile.TemporaryDirectory(prefix=".float32.", dir=folder) as whole:
            save(model_graph(model, params), Path(whole, FILE))
            quantised(Path(whole, FILE), folder / FILE)
    elif dtype == "bfloat16":
        save(with_bfloat16_weights(model_graph(model, params)), folder / FILE)
    else:
        save(model_graph(model, params, dtype), folder / FILE)
    versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    return open_session(folder / FILE), {"opset": OPSET, "versions": versions}


def save(proto: onnx.ModelProto, path: Path) -> None:
    """Write a graph, with its weights in a second file, `model.onnx.data`, if one would be too large."""
    size = sum(math.prod(x.dims) * tensor_dtype_to_np_dtype(x.data_type).itemsize for x in proto.graph.initializer)
    if size < _LARGEST:  # protobuf cannot tell the size of a larger message
        path.write_bytes(proto.SerializeToString())
    else:
        onnx.save_model(proto, str(path), save_as_external_data=True, location=f"{path.name}.data")
