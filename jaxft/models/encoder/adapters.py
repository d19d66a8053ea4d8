"""Adapters, small trainable modules added to frozen ones: their hyperparameters, adding them, and merging LoRA."""

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
ADAPTER = "adapter"  # a module next to the dense layer that it follows


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
    """Adds new adapters to dense layers (dotted names), initialised as in PEFT, so that the model's outputs are unchanged.

    Parameters are numpy arrays, or shapes (then shapes are added); `seed` is that of A, or of `down`.
    """
    kernels = {f"{module}.kernel" for module in modules}
    adapted = {name: name in kernels for name in tree.all_names(params)}
    flat = {}
    # Stacks are cut so that all layers of a stack have adapters in the same modules.
    for path, leaf in tree.flatten(tree.recut(params, tree.uniform_cuts(params, adapted))).items():
        names = tree.names(path)
        if is_adapter(names[0]):
            continue
        flat[path] = leaf
        if adapted[names[0]]:
            parent = path[:-1] if isinstance(kind, Lora) else (*path[:-2], ADAPTER)
            flat |= {(*parent, *new): x for new, x in _new_leaves(names, leaf, kind, seed).items()}
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


def _new_leaves(names: list[str], kernel: Any, kind: Lora | Bottleneck, seed: int) -> dict[tree.Path, Any]:
    """The leaves of the adapters of one kernel, by path; those that are not drawn or computed are zeros."""
    *lead, size, out = kernel.shape
    shapes: dict[tree.Path, tuple[int, ...]]
    if isinstance(kind, Lora):
        shapes = {("lora_a",): (*lead, size, kind.rank), ("lora_b",): (*lead, kind.rank, out)}
        shapes |= {("magnitude",): (*lead, out)} if kind.dora else {}
    else:
        shapes = {
            ("down", "kernel"): (*lead, out, kind.size),
            ("down", "bias"): (*lead, kind.size),
            ("up", "kernel"): (*lead, kind.size, out),
            ("up", "bias"): (*lead, out),
        }
    if isinstance(kernel, jax.ShapeDtypeStruct):
        return {new: jax.ShapeDtypeStruct(shape, np.float32) for new, shape in shapes.items()}
    leaves = {new: np.zeros(shape, np.float32) for new, shape in shapes.items()}
    # Each layer has a generator of its own, so its numbers do not depend on which other layers have adapters.
    generators = [host_generator(seed, zlib.crc32(name.encode())) for name in names]
    if isinstance(kind, Lora):
        drawn_leaf, bound = ("lora_a",), 1 / math.sqrt(size)  # torch.nn.init.kaiming_uniform_(a=sqrt(5))
        drawn = [rng.uniform(-bound, bound, (size, kind.rank)) for rng in generators]
    else:
        drawn_leaf = ("down", "kernel")
        drawn = [rng.normal(0.0, kind.stddev, (out, kind.size)) for rng in generators]
    leaves[drawn_leaf] = np.asarray(drawn, np.float32).reshape(shapes[drawn_leaf])
    return leaves | ({("magnitude",): np.linalg.norm(kernel, axis=-2)} if ("magnitude",) in leaves else {})
