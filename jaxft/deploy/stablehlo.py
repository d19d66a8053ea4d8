"""StableHLO as a format of export: one program for CPUs, GPUs and TPUs, any batch and any length, and a script for it."""

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxft.core import tree
from jaxft.core.tree import Params
from jaxft.deploy import function
from jaxft.deploy.replay import Arrays, Run
from jaxft.models.model import Model

FILE, PARAMETERS, SCRIPT = "model.stablehlo", "params.npz", "run.py"
DTYPES = ("float32", "bfloat16")
PLATFORMS = ("cpu", "cuda", "tpu")


def write(model: Model, params: Params, dtype: str, folder: Path) -> tuple[Run, dict[str, Any]]:
    """Write model.stablehlo, its parameters and run.py to a folder.

    The program is a function of the parameters, a dict of arrays by name in params.npz, and of the inputs by name, int32. A
    program with the parameters inside would take minutes to compile, since XLA computes with constants.

    Args:
      model, params: from `load`, without LoRA.
      dtype: of activations and matrix products, one of DTYPES; parameters are float32.
      folder: exists.

    Returns:
      The written files as a function, and what export.json says of them.
    """
    arrays = {".".join(path): x for path, x in tree.flatten(function.per_layer(model, params)).items()}
    np.savez(folder / PARAMETERS, **arrays)
    exported = _exported(function.portable(model, dtype), arrays)
    (folder / FILE).write_bytes(exported.serialize())
    shutil.copyfile(Path(__file__).with_name("run_stablehlo.py"), folder / SCRIPT)
    details = {
        "platforms": list(exported.platforms),
        "calling_convention": exported.calling_convention_version,
        "pad_token_id": model.encoder.config.pad_token_id,
        "versions": {},
    }
    return _opened(folder), details


def _exported(model: Model, arrays: Arrays) -> Any:
    """The forward pass for any batch and length, lowered for every platform."""
    dimensions = export.symbolic_shape(", ".join(function.input_shape(model)))
    ids = jax.ShapeDtypeStruct(dimensions, np.int32)
    inputs = dict.fromkeys(function.input_names(model), ids)
    names, whole = function.output_names(model), function.as_function(model)

    def forward(params: dict[str, jax.Array], inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        nested = tree.unflatten({tuple(name.split(".")): x for name, x in params.items()})
        outputs = whole(nested, inputs)
        return {name: outputs[name].astype(jnp.float32) for name in names}

    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in arrays.items()}
    with jax.default_matmul_precision("float32"):  # on TPUs and GPUs, too
        return export.export(jax.jit(forward), platforms=PLATFORMS)(shapes, inputs)


def _opened(folder: Path) -> Run:
    """The files as a function of int64 inputs, on JAX's first device."""
    program = export.deserialize(bytearray((folder / FILE).read_bytes()))
    with np.load(folder / PARAMETERS) as stored:
        params = {name: jnp.asarray(stored[name]) for name in stored.files}
    call = jax.jit(program.call)

    def run(inputs: Arrays) -> Arrays:
        return jax.tree.map(np.asarray, call(params, {name: x.astype(np.int32) for name, x in inputs.items()}))

    return run
