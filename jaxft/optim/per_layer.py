"""Stacked leaves in optimizers: statistics and settings of single layers."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxft.core import tree
from jaxft.core.tree import Params, Path


def layer_axes(path: Path, leaf: jax.Array) -> tuple[int, ...]:
    """The axes of a single layer's parameter, as negative numbers: all axes but that of the stack."""
    return tuple(range(-leaf.ndim + tree.is_stacked(path), 0))


def map_trees(function: Callable[..., Any], first: Mapping[str, Any], *others: Mapping[str, Any]) -> Params:
    """A tree of `function(path, leaf, leaf of each of the others)`."""
    flat = [tree.flatten(x) for x in others]
    return tree.map_with_path(lambda path, leaf: function(path, leaf, *(x[path] for x in flat)), first)


def of_layers(path: Path, leaf: jax.Array, setting: Callable[[str], Any], value: Callable[[Any], Any]) -> Any:
    """A number for a leaf, or one per layer if the plan's settings differ between the layers of a stack.

    Args:
      path, leaf: a leaf of a tree of parameters.
      setting: dotted name of a parameter -> a setting of the plan (hashable).
      value: the setting -> number, possibly traced.

    Returns:
      A number, or [L, 1, ...] with as many axes as the leaf.
    """
    settings = [setting(name) for name in tree.names(path)]
    if len({(type(x), x) for x in settings}) == 1:  # true and 1.0 are different settings
        return value(settings[0])
    numbers = jnp.stack([jnp.asarray(value(x), leaf.dtype) for x in settings])
    return numbers.reshape(-1, *[1] * (leaf.ndim - 1))


def transformation(init: Any, update: Any) -> optax.GradientTransformation:
    """A GradientTransformation of functions that are annotated with `Params`, which optax's types do not include."""
    return optax.GradientTransformation(init, update)


def unstacked(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """A transformation applied to unstacked parameters, `{dotted name: array}`, for optimizers with per-tensor statistics.

    It costs a slice and a copy of every stack.
    """

    def init(params: Params) -> Any:
        return inner.init(tree.unstack(params))

    def update(updates: Params, state: Any, params: Params) -> tuple[Params, Any]:
        unstacked_updates: Any
        unstacked_updates, state = inner.update(tree.unstack(updates), state, tree.unstack(params))
        return tree.restack(unstacked_updates, updates, jnp.stack), state

    return transformation(init, update)
