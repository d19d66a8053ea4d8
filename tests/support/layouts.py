"""Batches of the same examples in several layouts."""

import numpy as np

from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.data.tokens.encode import Examples
from tests.support.families import LENGTHS


def batch_of(data: Examples, layout: str) -> dict[str, np.ndarray]:
    """The only batch of `families.examples`, with rows for eight devices."""
    sampler = make_sampler(data.lengths, batch_size=len(LENGTHS), max_length=24, layout=layout, seed=0, shards=8)
    return {name: x[0] for name, x in sampler.epoch_batches(0).batch(data, 0).items()}
