"""The global norm of gradients and clipping by it, as one sum and in blocks, against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.optim.optimizer import _BLOCK, clip_by_global_norm, global_norm

SIZES = [(3,), (_BLOCK,), (_BLOCK + 3,), (2, _BLOCK // 2 + 1), (3 * _BLOCK + 1,)]


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("sizes", [*([size] for size in SIZES), SIZES], ids=str)
def test_the_global_norm_is_numpys(sizes, blocked):
    """The last number of a tensor is as large as all others together, so that none may be left out."""
    rng = np.random.default_rng(0)
    leaves = [rng.normal(size=size).astype(np.float32) for size in sizes]
    for x in leaves:
        x.reshape(-1)[-1] = np.linalg.norm(x)
    expected = np.sqrt(sum(np.square(x.astype(np.float64)).sum() for x in leaves))
    found = jax.jit(lambda tree: global_norm(tree, blocked=blocked))({str(i): x for i, x in enumerate(leaves)})
    assert float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("blocked", [False, True])
def test_clipping_scales_all_leaves_alike_and_only_if_the_norm_is_too_large(blocked):
    updates = {"a": jnp.asarray([3.0, 0.0]), "b": jnp.asarray([[4.0]])}
    clip = clip_by_global_norm(2.5, blocked=blocked)
    found, _ = clip.update(updates, clip.init(updates))
    np.testing.assert_allclose(found["a"], [1.5, 0.0], rtol=1e-6)
    np.testing.assert_allclose(found["b"], [[2.0]], rtol=1e-6)
    clip = clip_by_global_norm(6.0, blocked=blocked)
    assert float(clip.update(updates, clip.init(updates))[0]["b"][0, 0]) == 4.0
