"""Reads and writes weight files as flat `{name: numpy array}`. Nothing here unpickles."""

import glob
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxft.core import checksums
from jaxft.core.errors import UserError, json_fault, one_line
from jaxft.core.lock import TAG, is_being_written, process_tag
from jaxft.core.paths import path_inside
from jaxft.models.weights import StoredTensor
from jaxft.models.weights.flax_msgpack import open_msgpack

# safetensors' names of dtypes (safetensors.numpy has them, but not in its public interface)
_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
SAFETENSORS, INDEX, MSGPACK = "model.safetensors", "model.safetensors.index.json", "flax_model.msgpack"


def read_model_config(directory: Path) -> dict[str, Any]:
    """Reads config.json.

    Raises:
      UserError: if it is missing or not a JSON object.
    """
    path = directory / "config.json"
    if not path.is_file():
        if folders := sorted(p.parent for p in directory.glob("*/config.json")):  # sentence-transformers: 0_Transformer
            raise UserError(f"{directory}: no config.json; it is in a folder: give {folders[0]}")
        raise UserError(f"{directory}: no config.json; a model directory holds config.json and model.safetensors")
    return read_json(path)


def open_weights(directory: Path) -> tuple[dict[str, StoredTensor], str]:
    """Opens all tensors of a model directory, reading only headers.

    Returns:
      ({name in the file, with Flax paths joined by dots: tensor}, "pt" or "flax", the layout of kernels).

    Raises:
      UserError: if there are no weights, a file is truncated or corrupt, or the weights are pickled.
    """
    if (directory / SAFETENSORS).is_file():
        return open_safetensors(directory / SAFETENSORS), "pt"
    if (directory / INDEX).is_file():
        return _open_sharded(directory / INDEX), "pt"
    if (directory / MSGPACK).is_file():
        return open_msgpack(directory / MSGPACK), "flax"
    if pickles := sorted(p.name for p in directory.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".h5")):
        raise UserError(
            f"{directory}: holds only {pickles[0]}, which jaxft never opens (such a file can run code); convert it where "
            f'you trust it: python -c "import transformers as t; '
            f't.{_class_of(directory)}.from_pretrained({str(directory)!r}).save_pretrained({str(directory)!r})"'
        )
    raise UserError(f"{directory}: no weights ({SAFETENSORS}, {INDEX} or {MSGPACK})")


def _class_of(directory: Path) -> str:
    """The checkpoint's class in transformers, including its head, which AutoModel would drop."""
    try:
        name = str(read_model_config(directory)["architectures"][0])
    except (UserError, LookupError, TypeError):
        return "AutoModel"
    return name if re.fullmatch(r"(?!Flax|TF)[A-Z]\w{1,99}", name) else "AutoModel"


def write_directory(
    directory: Path, writers: Mapping[str, Callable[[Path], object]], remove: Collection[str] = (), *, manifest: bool = False
) -> None:
    """Writes files atomically: all are written to a temporary folder on the same disk, and then moved.

    Args:
      directory: created if absent; other files in it are unchanged.
      writers: file name -> function that writes a given path.
      remove: files to remove because they would contradict the new ones.
      manifest: also write checksums of the files (`core.checksums`); one of other files is removed.

    Raises:
      UserError: if the disk is full or read-only; then nothing in `directory` has changed.
    """
    temporary = None
    try:
        beside = directory if directory.is_dir() else directory.parent
        beside.mkdir(parents=True, exist_ok=True)
        for leftover in beside.glob(f".{glob.escape(directory.name)}.{TAG}*"):
            if not is_being_written(leftover):
                shutil.rmtree(leftover, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.{process_tag()}.", dir=beside))
        umask = os.umask(0)
        os.umask(umask)
        for name, write in writers.items():
            write(temporary / name)
            os.chmod(temporary / name, 0o666 & ~umask)  # safetensors creates files that only their owner can read
        if manifest:
            checksums.write_manifest(temporary)
            os.chmod(temporary / checksums.MANIFEST, 0o666 & ~umask)
        directory.mkdir(exist_ok=True)
        # The manifest goes first: if the process is killed here, the files that it does not fit are not taken for whole.
        (directory / checksums.MANIFEST).unlink(missing_ok=True)
        for name in ([checksums.MANIFEST] if manifest else []) + [*writers]:
            os.replace(temporary / name, directory / name)
        for name in remove:
            (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error.strerror or one_line(error)}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_safetensors(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Writes model.safetensors as PyTorch's transformers expects it."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, path, metadata={"format": "pt"})
    except SafetensorError as error:  # raised for a full disk, among others
        raise OSError(None, one_line(error)) from error


def open_safetensors(path: Path) -> dict[str, StoredTensor]:
    """Opens all tensors of one file, reading only headers."""
    from safetensors import safe_open

    def read(name: str) -> np.ndarray:
        # The file is opened for each tensor, since an open file keeps all pages that were read in memory.
        with _safetensors_errors(path), safe_open(path, framework="np") as file:
            return file.get_tensor(name)

    stored = {}
    with _safetensors_errors(path), safe_open(path, framework="np") as file:
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            part = file.get_slice(name)
            kind = part.get_dtype()
            if kind not in _TYPES:
                raise UserError(f"{path}: {name} is of type {kind}, which jaxft does not read")
            stored[name] = StoredTensor(tuple(part.get_shape()), np.dtype(jnp.dtype(_TYPES[kind])), partial(read, name))
    return stored


@contextmanager
def _safetensors_errors(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a complete safetensors file ({one_line(error)}); fetch it again") from error


def write_json(value: Mapping[str, Any], path: Path) -> None:
    """Writes a JSON object, indented."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _open_sharded(path: Path) -> dict[str, StoredTensor]:
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise UserError(f"{path}: no weight_map from tensors to files")
    stored: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())):
        file = path_inside(path.parent, shard)
        if file is None:
            raise UserError(f"{path}: names the shard {shard}, which is outside of its directory")
        if not os.path.isfile(file):
            raise UserError(f"{path}: names the shard {shard}, which is not there")
        for name, tensor in open_safetensors(file).items():
            if name in stored:
                raise UserError(f"{path}: the tensor {name} is in two shards")
            stored[name] = tensor
    if absent := sorted(set(weight_map) - set(stored)):
        raise UserError(f"{path}: names the tensor {absent[0]}, which is in no shard")
    return stored


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object whose texts can all be written as UTF-8.

    Raises:
      UserError: for anything else, and for an object that names a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        value = json.loads(text, object_pairs_hook=partial(_unique_keys, path))
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        lone = ascii(error.object[error.start])[1:-1]
        raise UserError(f"{path}: holds {lone}, half of a character: in UTF-16 two such make one") from error
    except (ValueError, RecursionError) as error:  # ValueError also for a number of thousands of digits
        raise UserError(f"{path}: not valid JSON ({json_fault(error)})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value


def _unique_keys(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes an object of a JSON file; Python would silently keep the last of two equal keys."""
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise UserError(f"{path}: names {key} twice")
        seen[key] = value
    return seen
