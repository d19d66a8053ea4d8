"""Pairs of examples for mixup: which examples are mixed in an epoch, how much, and after which layer."""

from collections.abc import Sequence

import numpy as np

from jaxft.core.ragged import offsets_of, places_in_rows
from jaxft.core.random_streams import OfSeed, host_generator
from jaxft.data.tokens.encode import Examples

RATIO, LAYER, PRESENT = "mix_ratio", "mix_layer", "mix_present"  # columns that `pair_examples` adds


def pair_examples(examples: Examples, *, seed: int, epoch: int, alpha: float, layers: Sequence[int]) -> Examples:
    """The examples of an epoch in random pairs, as examples of two sequences each.

    Args:
      examples: N examples of one sequence each.
      seed, epoch: pairs, ratios and layers are a function of both.
      alpha: the ratio is max(x, 1 - x), x drawn from Beta(alpha, alpha): the own share is the larger one (Chen et al. 2020).
      layers: numbers of layers, counted from 1 (0: the embeddings), one of which a pair is mixed after.

    Returns:
      (N + 1) // 2 examples; each column [N, ...] is [pairs, 2, ...]. New columns are RATIO float32 [pairs], LAYER int32
      [pairs] and PRESENT float32 [pairs, 2], which is 0 for the missing second sequence of an odd last pair.
    """
    count = len(examples)
    rng = host_generator(seed, OfSeed.MIXUP + epoch)
    order = rng.permutation(count)
    pairs = (count + 1) // 2
    order = np.append(order, order[:1]) if count % 2 else order
    present = np.ones((pairs, 2), np.float32)
    lengths = examples.lengths[order]
    if count % 2:
        present[-1, 1] = lengths[-1] = 0
    ratio = rng.beta(alpha, alpha, pairs)
    source = np.repeat(examples.starts[order], lengths) + places_in_rows(lengths)
    columns = {name: x[order].reshape(pairs, 2, *x.shape[1:]) for name, x in examples.columns.items()}
    columns[RATIO] = np.maximum(ratio, 1 - ratio).astype(np.float32)
    columns[LAYER] = np.asarray(layers, np.int32)[rng.integers(0, len(layers), pairs)]
    columns[PRESENT] = present
    return Examples({name: x[source] for name, x in examples.tokens.items()}, offsets_of(lengths), columns, group=2)
