"""Parameter paths: nested dicts, stacks of layers, first-match rules, and the partition into trainable and frozen.

Parameters are a nested dict. The layers of an encoder are *stacked*: under a key `"a:b"` (layers a to b - 1) every leaf
has a leading axis of length b - a. Users, rules and files name single layers: `encoder.layer.3.output.dense.kernel`. Only
this module translates between the two.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.core import patterns
from jaxft.core.errors import UserError, nearest

Params = dict[str, Any]
Path = tuple[str, ...]
T = TypeVar("T")
_SPAN = re.compile(r"^(\d+):(\d+)$")


def span(start: int, stop: int) -> str:
    """The key of a stack of layers `start` to `stop - 1`."""
    return f"{start}:{stop}"


def parse_span(key: str) -> tuple[int, int]:
    """`"2:6"` as (2, 6)."""
    start, stop = key.split(":")
    return int(start), int(stop)


def stacks(layers: Mapping[str, Any]) -> list[tuple[int, int, Any]]:
    """(start, stop, subtree) of every stack, lowest layer first."""
    return sorted((*parse_span(key), subtree) for key, subtree in layers.items())


def flatten(tree: Mapping[str, Any]) -> dict[Path, Any]:
    """The leaves by path, `{("encoder", "pooler", ...): leaf}`, in the order of the dict."""
    flat: dict[Path, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= {(key, *path): leaf for path, leaf in flatten(value).items()}
        else:
            flat[(key,)] = value
    return flat


def unflatten(flat: Mapping[Path, Any]) -> Params:
    """Inverse of `flatten`."""
    tree: Params = {}
    for path, leaf in flat.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = leaf
    return tree


def map_with_path(function: Callable[[Path, Any], Any], tree: Mapping[str, Any]) -> Params:
    """A tree of `function(path, leaf)`."""
    return unflatten({path: function(path, leaf) for path, leaf in flatten(tree).items()})


def is_stacked(path: Path) -> bool:
    """Whether a leaf holds one array per layer."""
    return any(_SPAN.match(key) for key in path)


def names(path: Path) -> list[str]:
    """Dotted names of a leaf: one, or one per layer if the leaf is stacked."""
    for i, key in enumerate(path):
        if _SPAN.match(key):
            start, stop = parse_span(key)
            return [".".join((*path[:i], str(layer), *path[i + 1 :])) for layer in range(start, stop)]
    return [".".join(path)]


def all_names(tree: Mapping[str, Any]) -> list[str]:
    """Dotted names of every parameter of a tree, one for each layer of a stack."""
    return [name for path in flatten(tree) for name in names(path)]


def unstack(tree: Mapping[str, Any]) -> dict[str, Any]:
    """`{dotted name: array}` with one entry per parameter per layer (numpy arrays give views)."""
    flat = {}
    for path, leaf in flatten(tree).items():
        flat |= {name: leaf[i] if is_stacked(path) else leaf for i, name in enumerate(names(path))}
    return flat


def unstacked_shapes(tree: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of every parameter by dotted name, one entry per layer of a stack; for arrays or shapes."""
    return {
        name: jax.ShapeDtypeStruct(leaf.shape[is_stacked(path) :], leaf.dtype)
        for path, leaf in flatten(tree).items()
        for name in names(path)
    }


def restack(flat: Mapping[str, Any], like: Mapping[str, Any], stack: Callable[[list[Any]], Any] = np.stack) -> Params:
    """Inverse of `unstack`, in the structure of `like`."""

    def leaf(path: Path, _: Any) -> Any:
        arrays = [flat[name] for name in names(path)]
        return stack(arrays) if is_stacked(path) else arrays[0]

    return map_with_path(leaf, like)


def recut(tree: Mapping[str, Any], cuts: Iterable[int]) -> Params:
    """The same parameters, with stacks that end exactly at `cuts` (layer numbers) and at the last layer."""
    if "layer" in tree and all(_SPAN.match(key) for key in tree["layer"]):
        return {**tree, "layer": _recut_stacks(tree["layer"], sorted(set(cuts)))}
    return {key: recut(value, cuts) if isinstance(value, Mapping) else value for key, value in tree.items()}


def _recut_stacks(layers: Mapping[str, Any], cuts: list[int]) -> Params:
    result: Params = {}
    # Layers whose parameters differ from their neighbours' stay in separate stacks.
    for _, group in itertools.groupby(stacks(layers), lambda stack: jax.tree.structure(stack[2])):
        parts = list(group)
        first, last = parts[0][0], parts[-1][1]
        edges = [first, *[c for c in cuts if first < c < last], last]
        if [(a, b) for a, b, _ in parts] == list(itertools.pairwise(edges)):
            result |= {span(a, b): stack for a, b, stack in parts}
            continue
        joined = parts[0][2] if len(parts) == 1 else jax.tree.map(lambda *x: _concatenate(x), *[p for _, _, p in parts])
        for a, b in itertools.pairwise(edges):
            result[span(a, b)] = jax.tree.map(partial(_slice, start=a - first, stop=b - first), joined)
    return result


def _slice(leaf: Any, start: int, stop: int) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((stop - start, *leaf.shape[1:]), leaf.dtype)
    return leaf[start:stop]


def _concatenate(leaves: Sequence[Any]) -> Any:
    if isinstance(leaves[0], jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((sum(x.shape[0] for x in leaves), *leaves[0].shape[1:]), leaves[0].dtype)
    return (np if isinstance(leaves[0], np.ndarray) else jnp).concatenate(leaves)


def first_match(rules: Sequence[tuple[str, T]], dotted: Iterable[str]) -> dict[str, T]:
    """For each parameter name, the value of the first rule (regular expression, value) that `re.search` finds in it.

    Raises:
      UserError: for a name that no rule covers, or a malformed pattern.
    """
    every = list(dotted)
    chosen: dict[str, T] = {}
    for (_, value), matched in zip(rules, patterns.match_each([pattern for pattern, _ in rules], every), strict=True):
        for name in itertools.compress(every, matched):
            chosen.setdefault(name, value)
    if missing := [name for name in every if name not in chosen]:
        raise UserError(f"{len(missing)} parameters are covered by no rule, first {missing[0]}")
    return chosen


def nearest_path(pattern: str, dotted: Sequence[str]) -> str:
    """A suggestion for messages: the path, or the part of one as long as the pattern, that is closest to the pattern."""
    plain = re.sub(r"[^\w.]", "", pattern.replace("\\", "")).strip(".")
    size = plain.count(".") + 1
    parts = [name.split(".") for name in dotted]
    windows = {".".join(p[i : i + size]): None for p in parts for i in range(len(p) - size + 1)}
    return nearest(plain, windows) or f"; a path is such as {dotted[-1]}"


def uniform_cuts(tree: Mapping[str, Any], settings: Mapping[str, Any]) -> list[int]:
    """Layer numbers at which any setting changes: after `recut` there, each stacked leaf has one setting."""
    cuts: set[int] = set()
    for path in filter(is_stacked, flatten(tree)):
        start, _ = parse_span(next(filter(_SPAN.match, path)))
        values = [settings[name] for name in names(path)]
        cuts |= {start + i for i in range(1, len(values)) if values[i] != values[i - 1]}
    return sorted(cuts)


def partition(tree: Mapping[str, Any], keep: Callable[[Path], bool]) -> tuple[Params, Params]:
    """(leaves for which `keep` holds, the other leaves), both in the original nesting."""
    flat = flatten(tree)
    kept = {path: leaf for path, leaf in flat.items() if keep(path)}
    return unflatten(kept), unflatten({path: leaf for path, leaf in flat.items() if path not in kept})


def combine(*trees: Mapping[str, Any]) -> Params:
    """Inverse of `partition`: one tree with the leaves of all."""
    return unflatten({path: leaf for tree in trees for path, leaf in flatten(tree).items()})


def count(tree: Any) -> int:
    """Number of scalars in a tree."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
