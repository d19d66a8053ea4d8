"""Changes to the files of a model directory, most of them damage."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

import jaxft

Tensors = dict[str, np.ndarray]
DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def flip(path: Path) -> None:
    """Overwrite the first eight bytes of a file."""
    data = bytearray(path.read_bytes())
    data[:8] = b"\xff" * 8
    path.write_bytes(data)


def half(path: Path) -> None:
    """Truncate a file to its first half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def tensors(directory: Path) -> Tensors:
    return load_file(directory / "model.safetensors")


def rewrite(directory: Path, change: Callable[[Tensors], Tensors]) -> None:
    save_file(change(tensors(directory)), directory / "model.safetensors")


def edit_config(directory: Path, **fields) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | fields))


def shard(directory: Path, change: Callable[[dict], None] = lambda shards: None) -> dict[str, str]:
    """Replace model.safetensors by two shards and their index, {tensor: shard}, which is returned.

    `change` edits {shard: tensors} after the index is made.
    """
    items = sorted(tensors(directory).items())
    shards = {f"model-0000{i + 1}-of-00002.safetensors": dict(items[i::2]) for i in range(2)}
    weight_map = {name: file for file, part in shards.items() for name in part}
    change(shards)
    for file, part in shards.items():
        save_file(part, directory / file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "model.safetensors").unlink()
    return weight_map


def to_msgpack(directory: Path) -> Path:
    """Replace model.safetensors by flax_model.msgpack."""
    jaxft.save(*jaxft.load(str(directory)), directory, flax=True)
    (directory / "model.safetensors").unlink()
    return directory / "flax_model.msgpack"
