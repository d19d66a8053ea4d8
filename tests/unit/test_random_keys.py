"""Keys are Philox: they differ by seed, and give the same bits on every sharding and under vmap."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxft.config import MeshConfig
from jaxft.core import random_keys
from jaxft.parallel import sharding


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_philox_gives_the_same_bits_on_every_sharding(dtype):
    key = jax.random.fold_in(random_keys.root_key(3), 5)
    mesh = sharding.make_mesh(MeshConfig(data=4, fsdp=2))

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.bits(key, (16, 24), dtype)

    reference = np.asarray(jax.jit(draw)(key))
    assert len(np.unique(reference)) > 300
    for spec in (P(), P("data"), P(("data", "fsdp")), P("fsdp", "data"), P(None, "data")):
        drawn = jax.jit(draw, out_shardings=jax.NamedSharding(mesh, spec))(key)
        np.testing.assert_array_equal(drawn, reference)


def test_philox_is_exact_under_vmap():
    keys = jax.random.split(random_keys.root_key(0), 4)
    together = jax.vmap(lambda key: jax.random.bits(key, (7,)))(keys)
    np.testing.assert_array_equal(together, [jax.random.bits(key, (7,)) for key in keys])


def test_root_keys_differ_by_seed_and_are_philox():
    assert str(jax.random.key_impl(random_keys.root_key(0))) == random_keys.PRNG == "philox4x32"
    words = {tuple(jax.random.key_data(random_keys.root_key(seed)).tolist()) for seed in range(50)}
    assert len(words) == 50
