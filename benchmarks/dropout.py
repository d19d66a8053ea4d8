"""Dropout of a layer's activations by generator and width of the random bits.

python -m benchmarks.dropout [--rounds 7]
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import record
from benchmarks.command import Part, compare_parts
from jaxft.config import cli
from jaxft.core import random_keys
from jaxft.models.encoder.dropout import dropout


def parts() -> Iterator[Part]:
    """Dropout of a layer's activations by generator and width of the random bits."""
    shape = (640, 384) if jax.devices()[0].platform == "cpu" else (32768, 768)
    x = jnp.ones(shape, jnp.float32)
    key = random_keys.root_key(0)  # also registers jaxft's lowering of philox

    def by_bits(x: Any, key: Any, bits: Any) -> Any:
        drawn = jax.random.bits(key, x.shape, bits)
        return jnp.where(drawn >= round(0.1 * jnp.iinfo(bits).max), x / 0.9, 0.0)

    def timer(function: Callable[..., Any]) -> Callable[[], float]:
        """Time dropout followed by an operation that uses its result several times, like a layer norm."""
        return record.timer(jax.jit(lambda x: jax.nn.standardize(function(x))), x, calls=20)

    timers = {"none": timer(lambda x: x), "jaxft": timer(partial(dropout, rate=0.1, key=key))}
    for name in ("threefry2x32", "philox2x32", "philox4x32", "rbg"):
        for bits in (jnp.uint16, jnp.uint32):
            key = jax.random.key(0, impl=name)
            timers[f"{name}, {jnp.iinfo(bits).bits} bits"] = timer(partial(by_bits, key=key, bits=bits))
    key = jax.random.key(0, impl="threefry2x32")
    timers["jax.random.bernoulli, threefry2x32"] = timer(
        lambda x: jnp.where(jax.random.bernoulli(key, 0.9, x.shape), x / 0.9, 0.0)
    )
    yield f"dropout of {shape[0]} x {shape[1]} numbers and a standardisation", timers, "jaxft"


def main(argv: list[str]) -> None:
    compare_parts(argv, __doc__, parts, "dropout.json")


if __name__ == "__main__":
    cli.run_main(main)
