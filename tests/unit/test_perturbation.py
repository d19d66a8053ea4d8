"""Perturbations belong to texts: norms, random starts and texts without gradient; options that do not go together."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import erfinv

from jaxft.config.adversarial import AdversarialConfig
from jaxft.core.errors import UserError
from jaxft.core.example_bits import uniform
from jaxft.core.random_keys import root_key
from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.data.tokens.encode import Examples
from jaxft.step.perturbation import Perturbation, with_seeds

SIZES = np.random.default_rng(0).integers(1, 30, 40)
EXAMPLES = Examples({"input_ids": np.arange(SIZES.sum(), dtype=np.int32)}, np.cumsum([0, *SIZES]), {})
WIDTH = 7


def by_text(function, layout="pack", micro_batches=1, seed=3) -> dict[int, np.ndarray]:
    """The part of each text of function(perturbation), an array [R, T, E]; 0 at padding."""
    sampler = make_sampler(
        EXAMPLES.lengths, batch_size=40, max_length=32, layout=layout, seed=0, micro_batches=micro_batches
    )
    raw = {name: jnp.asarray(x) for name, x in sampler.epoch_batches(0).batch(EXAMPLES, 0).items()}
    batch, found = with_seeds(raw, root_key(seed)), {}
    for k in range(micro_batches):
        micro = {name: x[k] for name, x in batch.items()}
        values = np.asarray(function(micro))
        assert not values[np.asarray(micro["segment_ids"]) == 0].any()
        for row, slot in zip(*np.nonzero(np.asarray(micro["weights"])), strict=True):
            number, begin = int(micro["example"][row, slot]), int(micro["first_token"][row, slot])
            found[number] = values[row, begin : begin + SIZES[number]]
    return found


@pytest.mark.parametrize("draw", [lambda x: x.uniform(0.5), lambda x: x.normal()], ids=["uniform", "normal"])
def test_random_numbers_belong_to_the_text(draw):
    expected = by_text(lambda batch: draw(Perturbation(batch, WIDTH)))
    assert len(expected) == len(SIZES)
    for layout, micro_batches in (("pad", 1), ("bucket", 2), ("pack", 2)):
        found = by_text(lambda batch: draw(Perturbation(batch, WIDTH)), layout, micro_batches)
        for number, values in expected.items():
            np.testing.assert_array_equal(found[number], values)
    other = by_text(lambda batch: draw(Perturbation(batch, WIDTH)), seed=4)
    assert all((other[number] != values).all() for number, values in expected.items())
    everything = np.concatenate([x.ravel() for x in expected.values()])
    assert len(np.unique(everything)) >= everything.size - 10  # of 2^23 numbers, so a pair or two may be equal


def test_the_largest_and_smallest_bits_give_finite_normal_numbers():
    found = np.asarray(uniform(jnp.asarray([0, 2**32 - 1], jnp.uint32)))
    assert found[0] > 0
    assert found[1] < 1
    assert np.isfinite(np.asarray(erfinv(2 * found - 1))).all()


def test_random_numbers_have_their_distributions():
    numbers = np.concatenate([x.ravel() for x in by_text(lambda batch: Perturbation(batch, WIDTH).normal()).values()])
    assert abs(numbers.mean()) < 4 / len(numbers) ** 0.5
    assert numbers.std() == pytest.approx(1, abs=4 / (2 * len(numbers)) ** 0.5)
    for norm in ("l2", "linf"):
        found = by_text(lambda batch: Perturbation(batch, WIDTH, norm).uniform(0.5))
        for number, values in found.items():
            largest = 0.5 if norm == "linf" else 0.5 / (SIZES[number] * WIDTH) ** 0.5
            assert 0.5 * largest < np.abs(values).max() <= largest


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("scale", [1.0, 1e-30], ids=["", "tiny"])
def test_directions_have_norm_one_unless_there_is_no_gradient(norm, scale):
    def direction(batch):
        space = Perturbation(batch, WIDTH, norm)
        gradient = space.normal() * scale
        return space.direction(jnp.where((batch["input_ids"] % 40 < 20)[..., None], gradient, 0.0))

    found = by_text(direction)
    norms = {n: (np.linalg.norm(x) if norm == "l2" else np.abs(x).max()) for n, x in found.items()}
    without = {n for n, x in found.items() if not x.any()}
    assert 0 < len(without) < len(SIZES)
    assert all(value == pytest.approx(float(n not in without), rel=1e-5) for n, value in norms.items())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_projections_move_only_what_is_outside(norm):
    before = by_text(lambda batch: Perturbation(batch, WIDTH, norm).normal())
    after = by_text(
        lambda batch: Perturbation(batch, WIDTH, norm, epsilon=9.0 if norm == "l2" else 1.0).projected(
            Perturbation(batch, WIDTH).normal()
        )
    )
    moved = 0
    for number, x in before.items():
        expected = np.clip(x, -1, 1) if norm == "linf" else x * min(1, 9 / np.linalg.norm(x))
        np.testing.assert_allclose(after[number], expected, rtol=1e-6)
        moved += bool((after[number] != x).any())
    assert 0 < moved <= len(SIZES)
    assert norm == "linf" or moved < len(SIZES)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 3}, ["adversarial.steps is 3", "method is null", "fgm"]),
        ({"method": "fgm", "steps": 3}, ["adversarial.steps is 3", "fgm has no such option", "epsilon, norm, weight"]),
        ({"method": "freelb", "weight": 0.5}, ["adversarial.weight is 0.5", "freelb has no such option"]),
        ({"method": "vat", "norm": "linf"}, ["adversarial.norm is linf", "vat has no such option"]),
        ({"method": "smart", "start": 0.0}, ["adversarial.start is 0", "smart"]),
    ],
)
def test_options_that_a_method_does_not_have_are_refused(options, words):
    with pytest.raises(UserError) as error:
        AdversarialConfig(**options).validate("adversarial.")
    assert all(word in str(error.value) for word in words), error.value
