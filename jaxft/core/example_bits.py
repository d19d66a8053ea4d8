"""Random bits that belong to an example and a number, such as a position in it, wherever the layout puts the example."""

import jax
import jax.numpy as jnp
from jax.extend.random import threefry2x32_p


def example_bits(key: jax.Array, example: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two random 32-bit numbers for each pair of an example and a number: threefry's, with the pair as its counter.

    Args:
      key: of the step.
      example, number: integers of one shape [...].

    Returns:
      Two uint32 arrays [...].
    """
    keys = (jnp.broadcast_to(k, number.shape) for k in jax.random.bits(key, (2,), "uint32"))
    first, second = threefry2x32_p.bind(*keys, example.astype(jnp.uint32), number.astype(jnp.uint32))
    return first, second


def uniform(bits: jax.Array) -> jax.Array:
    """Numbers between 0 and 1, both exclusive, of random uint32: the middles of 2^23 equal intervals.

    With 2^24 intervals float32 would round the last middle to 1, of which the normal distribution's quantile is infinite.
    """
    return ((bits >> 9).astype(jnp.float32) + 0.5) * jnp.float32(2**-23)
