"""Masks of dropout: the published generator, the rate, independence, and the same on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxft.config import MeshConfig
from jaxft.core import random_keys
from jaxft.models.encoder.dropout import dropout, keep_mask, philox
from jaxft.parallel import sharding

SHAPES = [(), (5,), (3, 1), (13, 6), (2, 12, 4), (3, 2, 17, 5), (2, 2, 2, 8, 3)]


# Known answers of the authors' Random123 library (kat_vectors): counter, key, what comes out.
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_published_answers(counter, key, expected):
    wrapped = jax.random.wrap_key_data(words(key), impl=random_keys.PRNG)
    found = jax.jit(philox)(wrapped, tuple(words(counter)[:, None]))
    assert [int(x[0]) for x in found] == [int(x) for x in words(expected)]


def words(text: str):
    return jnp.asarray([int(word, 16) for word in text.split()], jnp.uint32)


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_have_any_shape(shape):
    """At rate 0 nothing is dropped, at rate 1 everything; other values are scaled."""
    for rate, expected in ((0.0, 1.0), (1.0, 0.0)):
        keep, _ = keep_mask(shape, jnp.float32(rate), random_keys.root_key(1))
        assert keep.shape == shape
        assert (np.asarray(keep) == expected).all()
    found = np.asarray(dropout(jnp.full(shape, 3.0), 0.25, random_keys.root_key(1)))
    assert found.shape == shape
    assert set(found.ravel().tolist()) <= {0.0, 4.0}


@pytest.mark.parametrize("kind", ["philox4x32", "threefry2x32", "rbg"])
@pytest.mark.parametrize("rate", [1 / 65536, 0.1, 0.5, 0.9])
def test_the_share_of_dropped_values_is_the_rate(kind, rate):
    """Within five standard deviations, for all values and for each of the eight parts that are drawn together."""
    keep, scale = jax.jit(keep_mask, static_argnums=0)((64, 64, 256), rate, jax.random.key(7, impl=kind))
    dropped = 1 - np.asarray(keep, np.float64)
    share = round(rate * 65536) / 65536
    assert float(scale) == pytest.approx(1 / (1 - share), rel=1e-6)
    for part in (dropped, *np.split(dropped, 8, axis=1), *np.split(dropped, 8, axis=0), *np.split(dropped, 8, axis=2)):
        assert abs(part.mean() - share) <= 5 * np.sqrt(share * (1 - share) / part.size)


def test_masks_are_independent():
    """Rows, columns, planes, keys and folded keys are uncorrelated."""
    key = random_keys.root_key(3)
    keys = (key, random_keys.root_key(4), jax.random.fold_in(key, 1))
    x, other, step = (np.asarray(keep_mask((16, 64, 64), 0.5, each)[0], np.float64) - 0.5 for each in keys)
    assert abs((x * other).mean()) < 5 * 0.25 / np.sqrt(x.size)
    assert abs((x * step).mean()) < 5 * 0.25 / np.sqrt(x.size)
    for axis in range(3):
        rows = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
        common = rows @ rows.T / rows.shape[1]
        assert np.abs(common - np.diag(np.diag(common))).max() < 5.5 * 0.25 / np.sqrt(rows.shape[1])


def test_the_rate_may_be_traced():
    mask = jax.jit(keep_mask, static_argnums=0)
    for rate in (0.0, 0.1, 0.37, 1.0):
        for x, y in zip(
            mask((9, 4), rate, random_keys.root_key(1)), keep_mask((9, 4), rate, random_keys.root_key(1)), strict=True
        ):
            np.testing.assert_array_equal(x, y)


def test_masks_are_the_same_on_eight_devices():
    """Each device draws the mask of its rows, and nothing is exchanged."""
    mesh = sharding.make_mesh(MeshConfig(data=8))
    placed = jax.device_put(jnp.ones((16, 12, 6)), jax.sharding.NamedSharding(mesh, P("data")))
    key = random_keys.root_key(5)
    program = jax.jit(lambda x: dropout(x, 0.3, key)).lower(placed).compile()
    np.testing.assert_array_equal(program(placed), dropout(jnp.ones((16, 12, 6)), 0.3, key))
    assert not any(kind in program.as_text() for kind in ("all-gather", "all-reduce", "collective-permute"))


def test_a_mask_is_drawn_once_for_all_uses():
    """XLA:CPU would repeat the generator in every use of a mask; a layer has its twenty products per block once."""

    def layer(x):
        return jax.nn.standardize(dropout(x, 0.1, random_keys.root_key(0)))

    random_keys.make_philox_shardable()  # as a run does; otherwise the high word of a product is an operation of its own
    text = jax.jit(layer).lower(jnp.ones((4, 64, 32))).compile().as_text()
    products = [line for line in text.splitlines() if " multiply(" in line and "u64[4,8,32]" in line]
    everywhere = [line for line in text.splitlines() if " multiply(" in line and "u64[4,64,32]" in line]
    assert 10 <= len(products) <= 40, len(products)
    assert not everywhere


@pytest.mark.parametrize("shape", [(8, 5, 3), (64, 3), (20, 3), (12,)], ids=str)
def test_each_device_draws_its_part_of_the_mask(shape):
    """Traced for single devices (`step.device_sums`); the tokens that are drawn together may lie on several of them."""
    mesh, key = sharding.make_mesh(MeshConfig(data=4)), random_keys.root_key(5)
    whole, _ = keep_mask(shape, 0.5, key)

    def part(key):
        own, _ = keep_mask((shape[0] // 4, *shape[1:]), 0.5, key)
        return own, keep_mask(shape, 0.5, key, shared=True)[0][None]

    own, shared = jax.jit(jax.shard_map(part, mesh=mesh, in_specs=P(), out_specs=P("data"), check_vma=False))(key)
    np.testing.assert_array_equal(own, whole)
    for copy in np.asarray(shared):
        np.testing.assert_array_equal(copy, whole)
