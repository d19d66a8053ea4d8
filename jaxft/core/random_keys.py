"""The random keys of a run: Philox, which gives the same bits on every device and sharding."""

from functools import cache
from typing import Any

PRNG = "philox4x32"


def root_key(seed: int) -> Any:
    """The root key of a run. On CPU, Philox takes a tenth of threefry's time; its bits are the same on every device."""
    import jax

    return jax.random.key(seed, impl=PRNG)


@cache
def make_philox_shardable() -> None:
    """Lower the high word of an integer product to plain arithmetic, with the same bits.

    jax 0.10 to 0.12 lower it to `chlo.mulhi`, which the Shardy partitioner cannot export, so that any program with a
    philox key on several devices fails with "Unable to convert MHLO to StableHLO". It changes the whole process, so only
    `parallel.sharding.make_mesh` calls it.
    """
    from jax._src.interpreters import mlir  # no public way to choose a lowering
    from jax._src.lax import lax

    mlir.register_lowering(lax.mulhi_p, mlir.lower_fun(_high_word, multiple_results=False))


def _high_word(x: Any, y: Any) -> Any:
    """The upper 32 bits of the product of two uint32 arrays; 64-bit types are enabled only here."""
    import jax

    with jax.enable_x64(True):
        wide = x.astype("uint64") * y.astype("uint64")
        return jax.lax.shift_right_logical(wide, jax.numpy.full_like(wide, 32)).astype("uint32")
