"""Adafactor (Shazeer & Stern 2018, arXiv:1804.04235) with the conventions of transformers' `Adafactor`, per layer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxft.core import tree
from jaxft.core.tree import Params, Path
from jaxft.optim.per_layer import layer_axes, map_trees, transformation


class AdafactorState(NamedTuple):
    """Second moments: `row` [..., in] and `column` [..., out] of matrices, `full` of all other parameters."""

    steps: jax.Array
    row: Params
    column: Params
    full: Params


def adafactor(
    decay: Any,
    *,
    decay_rate: float = -0.8,
    clip_threshold: float = 1.0,
    epsilon: float = 1e-30,
    smallest_scale: float = 1e-3,
    scale_parameter: bool = True,
    relative_step: bool = False,
) -> optax.GradientTransformation:
    """Adafactor without a first moment; weight decay is decoupled and scaled like the update.

    Args:
      decay: (updates, parameters) -> updates with weight decay, to be multiplied by the same learning rate.
      decay_rate: exponent c of the second moment's decay 1 - t**c.
      clip_threshold: maximum root mean square of a tensor's update.
      epsilon: added to the squared gradient (transformers' `eps[0]`).
      smallest_scale: minimum of a parameter's root mean square in `scale_parameter` (transformers' `eps[1]`).
      scale_parameter: multiply the learning rate by the root mean square of the parameter.
      relative_step: also multiply it by min(0.01, 1 / sqrt(t)).
    """

    def is_matrix(path: Path, leaf: Any) -> bool:
        return len(layer_axes(path, leaf)) >= 2

    def init(params: Params) -> AdafactorState:
        flat = tree.flatten(params)
        matrices, others = tree.partition(params, lambda path: is_matrix(path, flat[path]))
        row = jax.tree.map(lambda x: jnp.zeros(x.shape[:-1], x.dtype), matrices)
        column = jax.tree.map(lambda x: jnp.zeros(x.shape[:-2] + x.shape[-1:], x.dtype), matrices)
        return AdafactorState(jnp.zeros((), jnp.int32), row, column, jax.tree.map(jnp.zeros_like, others))

    def update(updates: Params, state: AdafactorState, params: Params) -> tuple[Params, AdafactorState]:
        steps = state.steps + 1
        step = steps.astype(jnp.float32)
        keep = 1.0 - step**decay_rate
        moments: dict[str, dict[Path, jax.Array]] = {"row": {}, "column": {}, "full": {}}
        before = {name: tree.flatten(getattr(state, name)) for name in moments}

        def update_moment(name: str, path: Path, x: jax.Array) -> jax.Array:
            moments[name][path] = keep * before[name][path] + (1.0 - keep) * x
            return moments[name][path]

        def direction(path: Path, g: jax.Array) -> jax.Array:
            square = jnp.square(g) + epsilon
            if is_matrix(path, g):
                row = update_moment("row", path, square.mean(-1))
                column = update_moment("column", path, square.mean(-2))
                row = jax.lax.rsqrt(row / row.mean(-1, keepdims=True))
                u = row[..., None] * jax.lax.rsqrt(column)[..., None, :] * g
            else:
                u = jax.lax.rsqrt(update_moment("full", path, square)) * g
            return u / jnp.maximum(1.0, _rms(path, u) / clip_threshold)

        def scaled(path: Path, u: jax.Array, p: jax.Array) -> jax.Array:
            u = u * jnp.maximum(smallest_scale, _rms(path, p)) if scale_parameter else u
            return u * jnp.minimum(1e-2, jax.lax.rsqrt(step)) if relative_step else u

        directions = decay(tree.map_with_path(direction, updates), params)
        after = {name: tree.unflatten(x) for name, x in moments.items()}
        return map_trees(scaled, directions, params), AdafactorState(steps, **after)

    return transformation(init, update)


def _rms(path: Path, x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.square(x).mean(layer_axes(path, x), keepdims=True))
