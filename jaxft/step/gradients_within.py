"""Losses that compute their own gradients, because they need those of word embeddings on the way.

A backward pass gives the gradients of the parameters and of a perturbation together. If the loss were differentiated from
outside, it would be computed once for the perturbation and once more for the parameters.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxft.losses import WeightedSum
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import Batch, LossFn, Outputs

Array = jax.Array
Leaves = list[Array]
# (all parameters as a function of the trained leaves, these leaves, batch, key, hyperparameters) -> ((sum, weight), the
# gradients of the sum for the leaves)
Computed = Callable[[Callable[[Leaves], Parameters], Leaves, Batch, Array, Mapping[str, Any]], tuple[WeightedSum, Leaves]]


def with_own_gradients(compute: Computed) -> LossFn:
    """The loss that `compute` gives, whose gradients are those that it has computed; it has no outputs.

    Only leaves that are differentiated are among the trained ones, so frozen parameters cost no gradients.
    """

    def loss(params: Parameters, batch: Batch, key: Array | None, hyper: Mapping[str, Any]) -> tuple[WeightedSum, Outputs]:
        leaves, structure = jax.tree.flatten(params)

        @jax.custom_vjp
        def value(leaves: Leaves, batch: Batch, key: Array, hyper: Mapping[str, Any]) -> WeightedSum:
            return compute(lambda _: jax.tree.unflatten(structure, leaves), [], batch, key, hyper)[0]

        def forward(*arguments: Any) -> tuple[WeightedSum, list[Array | None]]:
            given, *rest = jax.tree.map(lambda x: x.value, arguments, is_leaf=_is_argument)
            trained = [i for i, x in enumerate(arguments[0]) if x.perturbed]

            def join(own: Leaves) -> Parameters:
                new = dict(zip(trained, own, strict=True))
                return jax.tree.unflatten(structure, [new.get(i, x) for i, x in enumerate(given)])

            result, gradients = compute(join, [given[i] for i in trained], *rest)
            found = dict(zip(trained, gradients, strict=True))
            return result, [found.get(i) for i in range(len(given))]

        def backward(gradients: list[Array | None], cotangents: Any) -> tuple[Any, ...]:
            factor = cotangents[0]
            return [None if g is None else g * factor.astype(g.dtype) for g in gradients], None, None, None

        value.defvjp(forward, backward, symbolic_zeros=True)
        return value(leaves, batch, key, hyper), {}

    return loss


def _is_argument(x: Any) -> bool:
    return isinstance(x, jax.custom_derivatives.CustomVJPPrimal)
