"""The named optimizers: optax transformations of the gradient, before learning rate and schedule.

Each is a function `(decay, **arguments)`; its arguments are those that `optim.arguments` may contain. `decay` is a function
(updates, parameters) -> updates that adds weight decay where the plan says so. All treat the layers of a stack separately.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxft.core import tree
from jaxft.core.tree import Params, Path
from jaxft.optim.adafactor import adafactor
from jaxft.optim.per_layer import layer_axes, map_trees, transformation

Decay = Callable[[Any, Any], Any]
Transformation = optax.GradientTransformation


def adamw(decay: Decay, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Transformation:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101), as in torch.optim.AdamW."""
    return optax.chain(optax.scale_by_adam(beta1, beta2, epsilon), optax.stateless(decay))


def adam(decay: Decay, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Transformation:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980); weight decay is added to the gradient (L2), as in torch.optim.Adam."""
    return optax.chain(optax.stateless(decay), optax.scale_by_adam(beta1, beta2, epsilon))


def bert_adam(decay: Decay, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-6) -> Transformation:
    """AdamW without bias correction, as BERT was trained (google-research/bert, `AdamWeightDecayOptimizer`)."""

    def update(updates: Params, state: Moments, params: Any = None) -> tuple[Params, Moments]:
        mean = jax.tree.map(lambda g, m: beta1 * m + (1 - beta1) * g, updates, state.mean)
        square = jax.tree.map(lambda g, v: beta2 * v + (1 - beta2) * jnp.square(g), updates, state.square)
        return decay(jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + epsilon), mean, square), params), Moments(mean, square)

    def init(params: Params) -> Moments:
        return Moments(jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params))

    return transformation(init, update)


def sgd(decay: Decay, *, momentum: float = 0.9, nesterov: bool = False) -> Transformation:
    """Stochastic gradient descent; weight decay is added to the gradient (L2), as in torch.optim.SGD."""
    return optax.chain(optax.stateless(decay), optax.trace(momentum, nesterov) if momentum else optax.identity())


def rmsprop(decay: Decay, *, alpha: float = 0.99, epsilon: float = 1e-8, momentum: float = 0.0) -> Transformation:
    """RMSprop as in torch.optim.RMSprop: epsilon is outside the root, weight decay is added to the gradient (L2)."""
    scale = optax.scale_by_rms(alpha, epsilon, eps_in_sqrt=False)
    return optax.chain(optax.stateless(decay), scale, optax.trace(momentum) if momentum else optax.identity())


def adagrad(decay: Decay, *, initial_accumulator: float = 0.0, epsilon: float = 1e-10) -> Transformation:
    """Adagrad (Duchi et al. 2011) as in torch.optim.Adagrad: epsilon is outside the root, weight decay is L2."""

    def update(updates: Params, state: Squares, params: Any = None) -> tuple[Params, Squares]:
        gradient = decay(updates, params)
        total = jax.tree.map(lambda g, s: s + jnp.square(g), gradient, state.total)
        return jax.tree.map(lambda g, s: g / (jnp.sqrt(s) + epsilon), gradient, total), Squares(total)

    def init(params: Params) -> Squares:
        return Squares(jax.tree.map(lambda x: jnp.full_like(x, initial_accumulator), params))

    return transformation(init, update)


def lion(decay: Decay, *, beta1: float = 0.9, beta2: float = 0.99) -> Transformation:
    """Lion (Chen et al. 2023, arXiv:2302.06675): the sign of the momentum, with decoupled weight decay."""
    return optax.chain(optax.scale_by_lion(beta1, beta2), optax.stateless(decay))


def lamb(decay: Decay, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-6) -> Transformation:
    """LAMB (You et al. 2020, arXiv:1904.00962): AdamW's update times |parameter| / |update|, per tensor of each layer."""

    def trusted(path: Path, update: jax.Array, param: jax.Array) -> jax.Array:
        of_param, of_update = (jnp.sqrt(jnp.square(x).sum(layer_axes(path, x), keepdims=True)) for x in (param, update))
        ratio = of_param / jnp.where(of_update > 0, of_update, 1.0)
        return update * jnp.where((of_param > 0) & (of_update > 0), ratio, 1.0)

    def trust(updates: Any, params: Any) -> Params:
        return map_trees(trusted, updates, params)

    return optax.chain(optax.scale_by_adam(beta1, beta2, epsilon), optax.stateless(decay), optax.stateless(trust))


def muon(
    decay: Decay,
    *,
    momentum: float = 0.95,
    consistent_rms: float = 0.2,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> Transformation:
    """Muon (Jordan 2024) for the encoder's kernels, AdamW for embeddings, vectors and heads.

    The update of a kernel is its orthogonalised momentum, scaled to the size of AdamW's updates (Liu et al. 2025,
    arXiv:2502.16982), so both use AdamW's learning rate and weight decay.
    """
    dimensions = optax.contrib.MuonDimensionNumbers(-2, -1)  # the axis of a stack counts as a batch axis

    def dimension_numbers(params: Any) -> Any:
        """The dimensions of the parameters that Muon updates; those that optax has masked stay masked."""
        return jax.tree.map(lambda _: dimensions, params)

    def label(path: Path, x: jax.Array) -> str:
        is_updated = path[-1] == "kernel" and "heads" not in path and len(layer_axes(path, x)) == 2
        return "muon" if is_updated else "adam"

    def sized(update: jax.Array) -> jax.Array:
        return update * (consistent_rms * max(update.shape[-2:]) ** 0.5)

    orthogonal = optax.contrib.scale_by_muon(beta=momentum, eps=epsilon, weight_dimension_numbers=dimension_numbers)
    parts: dict[Any, Transformation] = {
        "muon": optax.chain(orthogonal, optax.stateless(lambda updates, _: jax.tree.map(sized, updates))),
        "adam": optax.scale_by_adam(beta1, beta2, epsilon),
    }
    return optax.chain(optax.partition(parts, partial(tree.map_with_path, label)), optax.stateless(decay))


class Moments(NamedTuple):
    """State of Adam."""

    mean: Params
    square: Params


class Squares(NamedTuple):
    """State of Adagrad."""

    total: Params


NAMED: dict[str, Callable[..., Transformation]] = {
    f.__name__: f for f in (adamw, adam, bert_adam, sgd, rmsprop, adagrad, adafactor, lion, lamb, muon)
}
