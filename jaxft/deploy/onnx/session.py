"""ONNX files in onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxft.core.errors import UserError, one_line
from jaxft.deploy.replay import Arrays, Run


def open_session(path: Path) -> Run:
    """The graph in a file as a function of its inputs, on the CPU.

    Raises:
      UserError: if this onnxruntime cannot open it.
    """
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, one for each status
        raise UserError(f"{path}: onnxruntime {onnxruntime.__version__} cannot open it: {one_line(error)}") from error
    names = [x.name for x in session.get_outputs()]

    def run(inputs: Arrays) -> Arrays:
        return {name: np.asarray(x) for name, x in zip(names, session.run(names, inputs), strict=True)}

    return run
