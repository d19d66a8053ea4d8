"""Examples in pairs, which share a row of a batch in every layout: to be mixed, or to be predicted alike."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxft.core.random_streams import OfSeed, host_generator
from jaxft.data.tokens.encode import Examples
from jaxft.data.tokens.replace import join_examples, select_examples

RATIO, LAYER, PRESENT, LABELLED = "mix_ratio", "mix_layer", "present", "labelled"  # columns that are added
PER_PAIR = (RATIO, LAYER)  # [pairs]; all other columns have a value for each example of a pair, [pairs, 2, ...]


def in_pairs(examples: Examples) -> Examples:
    """Examples 0 and 1 as one of two sequences, 2 and 3, and so on; an odd last one has no second sequence.

    Columns [N, ...] become [pairs, 2, ...]. The column PRESENT is 0 for a missing second sequence, else 1.
    """
    count = len(examples)
    columns = {name: _pairs(x) for name, x in examples.columns.items()}
    columns[PRESENT] = _pairs(np.ones(count, np.float32))
    offsets = np.append(examples.offsets, examples.offsets[-1:]) if count % 2 else examples.offsets
    return replace(examples, offsets=offsets, columns=columns, group=2)


def mixing_pairs(examples: Examples, *, seed: int, epoch: int, alpha: float, layers: Sequence[int]) -> Examples:
    """The examples of an epoch in random pairs, whose hidden states are mixed (`step/mixup`).

    Args:
      examples: N examples of one sequence each.
      seed, epoch: pairs, ratios and layers are a function of both.
      alpha: the ratio is max(x, 1 - x), x drawn from Beta(alpha, alpha): the larger share is an example's own
        (Chen et al. 2020).
      layers: numbers of layers, counted from 1 (0: the embeddings), one of which a pair is mixed after.

    Returns:
      (N + 1) // 2 pairs with the columns RATIO float32 [pairs] and LAYER int32 [pairs].
    """
    rng = host_generator(seed, OfSeed.PAIRS + epoch)
    paired = in_pairs(select_examples(examples, rng.permutation(len(examples))))
    ratio = rng.beta(alpha, alpha, len(paired))
    layer = np.asarray(layers, np.int32)[rng.integers(0, len(layers), len(paired))]
    return paired.with_columns(**{RATIO: np.maximum(ratio, 1 - ratio).astype(np.float32), LAYER: layer})


def consistency_pairs(labelled: Examples, originals: Examples, augmented: Examples, *, seed: int, epoch: int) -> Examples:
    """The labelled examples of an epoch in random pairs, and behind them pairs of a text without a label and its augmented
    version (`step/consistency`).

    The column LABELLED is 1 for labelled examples. Others have 0 in the columns of labels.
    """
    order = host_generator(seed, OfSeed.PAIRS + epoch).permutation(len(labelled))
    count = len(originals)
    both = np.stack([np.arange(count), count + np.arange(count)], axis=1).ravel()
    unlabelled = select_examples(join_examples([originals, augmented]), both)
    columns = {name: np.zeros((2 * count, *x.shape[1:]), x.dtype) for name, x in labelled.columns.items()}
    unlabelled = replace(unlabelled, columns=columns | {LABELLED: np.zeros(2 * count, np.float32)})
    labelled = select_examples(labelled, order).with_columns(**{LABELLED: np.ones(len(order), np.float32)})
    return join_examples([in_pairs(labelled), in_pairs(unlabelled)])


def _pairs(values: np.ndarray) -> np.ndarray:
    """[N, ...] as [pairs, 2, ...], with 0 for a missing last value."""
    values = np.asarray(values)
    if len(values) % 2:
        values = np.concatenate([values, np.zeros_like(values[:1])])
    return values.reshape(-1, 2, *values.shape[1:])
