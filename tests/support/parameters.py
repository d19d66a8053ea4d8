"""A small parameter tree with a stack of layers, and gradients for it."""

import jax
import jax.numpy as jnp
import numpy as np

LAYERS = 3


def draw(seed: int):
    """A small tree with a stack, in the shapes of a model's."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(0, 0.5, shape), jnp.float32)

    layers = {"dense": {"kernel": normal(LAYERS, 8, 16), "bias": normal(LAYERS, 16)}, "norm": {"scale": normal(LAYERS, 8)}}
    encoder = {"embeddings": {"words": {"embedding": normal(24, 8)}}, "layer": {f"0:{LAYERS}": layers}}
    return {"encoder": encoder, "heads": {"main": {"kernel": normal(8, 4), "bias": normal(4)}}}


PARAMS, GRADIENTS = draw(0), [draw(seed) for seed in (1, 2, 3)]
