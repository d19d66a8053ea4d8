"""Adapters, small trainable modules beside frozen parameters: their hyperparameters, adding them, and merging LoRA."""

import math
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxft.core import tree
from jaxft.core.random_streams import host_generator
from jaxft.core.tree import Params

LORA = ("lora_a", "lora_b", "magnitude")  # leaves of a dense layer
ADAPTER = "adapter"  # module beside the dense layer after which it stands


@dataclass(frozen=True)
class Lora:
    """Low-rank adaptation of dense layers: `x W + scale * dropout(x) A B` (Hu et al. 2021, arXiv:2106.09685).

    Attributes:
      rank: columns of A [in, rank], rows of B [rank, out].
      alpha: numerator of the scale.
      dropout: dropout rate before A.
      rank_stabilized: the scale is alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski 2023, arXiv:2312.03732).
      dora: the lengths of the sum's columns are a separate parameter `magnitude` [out] (Liu et al. 2024, arXiv:2402.09353).
    """

    rank: int
    alpha: float
    dropout: float = 0.0
    rank_stabilized: bool = False
    dora: bool = False

    @property
    def scale(self) -> float:
        """Factor of A B."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)


@dataclass(frozen=True)
class Bottleneck:
    """A narrow layer with a residual, `x + up(activation(down(x)))` (Houlsby et al. 2019, arXiv:1902.00751).

    Attributes:
      size: width of the narrow layer.
      activation: a name of ACTIVATIONS.
      stddev: standard deviation of the initial `down`; `up` is initialised to zeros.
    """

    size: int
    activation: str
    stddev: float = 0.02


@dataclass(frozen=True)
class Adapted:
    """Which modules of a model have adapters, and what is saved with them.

    Attributes:
      modules: dotted names of the dense layers with adapters.
      base: the base model that was loaded: a directory, a hub id or package:...
      revision: revision of a hub id.
      saved: other parameters that differ from the base, and so are saved with the adapter.
    """

    modules: tuple[str, ...]
    base: str | None = None
    revision: str | None = None
    saved: frozenset[str] = frozenset()


def is_adapter(name: str) -> bool:
    """Whether a dotted name is that of an adapter's parameter."""
    path = name.split(".")
    return path[-1] in LORA or ADAPTER in path


def dense_modules(params: Mapping[str, Any]) -> list[str]:
    """Dotted names of the dense layers, without those of adapters."""
    return [
        name.removesuffix(".kernel")
        for path, leaf in tree.flatten(params).items()
        if path[-1] == "kernel" and path[-2] != "decoder" and leaf.ndim - tree.is_stacked(path) == 2
        for name in tree.names(path)
        if not is_adapter(name)
    ]


def add(params: Params, modules: Collection[str], kind: Lora | Bottleneck, seed: int = 0) -> Params:
    """Adds new adapters, initialised as in PEFT, so that the model's outputs are unchanged.

    Args:
      params: numpy arrays, or shapes (then shapes are added).
      modules: dotted names of dense layers.
      kind: hyperparameters of the adapters.
      seed: seed of A, or of `down`.
    """
    adapted_modules = set(modules)
    params = tree.recut(params, _cuts(params, adapted_modules))
    flat = {}
    for path, leaf in tree.flatten(params).items():
        name = tree.names(path)[0]
        if is_adapter(name):
            continue
        flat[path] = leaf
        if path[-1] == "kernel" and name.removesuffix(".kernel") in adapted_modules:
            if isinstance(kind, Lora):
                flat |= {(*path[:-1], new): x for new, x in _lora_leaves(tree.names(path), leaf, kind, seed).items()}
            else:
                at = (*path[:-2], ADAPTER)
                flat |= {(*at, *new): x for new, x in _bottleneck_leaves(tree.names(path), leaf, kind, seed).items()}
    return tree.unflatten(flat)


def merge(params: Params, lora: Lora) -> Params:
    """Merges LoRA into the kernels (numpy parameters)."""
    flat = tree.flatten(params)
    for path in [path for path in flat if path[-1] == "lora_a"]:
        at = path[:-1]
        a, b = flat.pop(path), flat.pop((*at, "lora_b"))
        kernel = flat[(*at, "kernel")] + np.float32(lora.scale) * (a @ b)
        if lora.dora:
            magnitude = flat.pop((*at, "magnitude"))
            kernel = kernel * (magnitude / np.linalg.norm(kernel, axis=-2))[..., None, :]
        flat[(*at, "kernel")] = kernel
    return tree.recut(tree.unflatten(flat), ())


def _cuts(params: Params, adapted_modules: Collection[str]) -> list[int]:
    """Where stacks must end so that all layers of a stack have adapters in the same modules."""
    return tree.uniform_cuts(
        params, {name: name.removesuffix(".kernel") in adapted_modules for name in tree.all_names(params)}
    )


def _lora_leaves(names: list[str], kernel: Any, kind: Lora, seed: int) -> dict[str, Any]:
    *lead, size, out = kernel.shape
    shapes: dict[str, tuple[int, ...]] = {"lora_a": (*lead, size, kind.rank), "lora_b": (*lead, kind.rank, out)}
    if kind.dora:
        shapes["magnitude"] = (*lead, out)
    if isinstance(kernel, jax.ShapeDtypeStruct):
        return {new: jax.ShapeDtypeStruct(shape, np.float32) for new, shape in shapes.items()}
    bound = 1 / math.sqrt(size)  # torch.nn.init.kaiming_uniform_(a=sqrt(5))
    drawn = [_generator(seed, name).uniform(-bound, bound, (size, kind.rank)) for name in names]
    leaves = {
        "lora_a": np.asarray(drawn, np.float32).reshape(shapes["lora_a"]),
        "lora_b": np.zeros(shapes["lora_b"], np.float32),
    }
    return leaves | ({"magnitude": np.linalg.norm(kernel, axis=-2)} if kind.dora else {})


def _bottleneck_leaves(names: list[str], kernel: Any, kind: Bottleneck, seed: int) -> dict[tuple[str, str], Any]:
    *lead, _, out = kernel.shape
    shapes: dict[tuple[str, str], tuple[int, ...]] = {
        ("down", "kernel"): (*lead, out, kind.size),
        ("down", "bias"): (*lead, kind.size),
        ("up", "kernel"): (*lead, kind.size, out),
        ("up", "bias"): (*lead, out),
    }
    if isinstance(kernel, jax.ShapeDtypeStruct):
        return {new: jax.ShapeDtypeStruct(shape, np.float32) for new, shape in shapes.items()}
    leaves = {new: np.zeros(shape, np.float32) for new, shape in shapes.items()}
    drawn = [_generator(seed, name).normal(0.0, kind.stddev, (out, kind.size)) for name in names]
    leaves["down", "kernel"] = np.asarray(drawn, np.float32).reshape(shapes["down", "kernel"])
    return leaves


def _generator(seed: int, name: str) -> np.random.Generator:
    """A layer's own, so that its numbers do not depend on which other layers have adapters."""
    return host_generator(seed, zlib.crc32(name.encode()))
