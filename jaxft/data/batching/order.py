"""Which examples share a step: a random order whose steps hold nearly the same number of tokens."""

import numpy as np

from jaxft.core.random_streams import host_generator

# Of the logarithm of lengths, before they are sorted into strata. Without it, examples of like lengths would never share a
# step; with 0.3, two that share one are together again in the next epoch about as often as by chance, and the numbers of
# tokens still differ by less than an example's length.
NOISE = 0.3


def epoch_order(lengths: np.ndarray, batch_size: int, seed: int | None, epoch: int) -> np.ndarray:
    """The examples in the order in which they are trained on: a permutation that only the arguments decide.

    Steps of whole batches are stratified by length: each takes an example of every stratum, and gets the longer ones of a
    stratum where it has fewer tokens so far. So all need as many rows, and one shape fits them. Every example is still as
    likely in one step as in another. The last step, where it is smaller, holds what a plain permutation leaves over.

    Args:
      lengths: tokens of each example, [N].
      batch_size: examples a step.
      seed: None orders by length instead, longest first (evaluation where it is not packed).
      epoch: each has an order of its own.

    Returns:
      int64 [N].
    """
    if seed is None:
        return np.argsort(-lengths, kind="stable")
    rng = host_generator(seed, epoch)
    order = rng.permutation(len(lengths))
    steps = len(lengths) // batch_size
    whole = order[: steps * batch_size]
    noisy = np.log(np.maximum(lengths[whole], 1)) + NOISE * rng.standard_normal(len(whole))
    strata = whole[np.argsort(-noisy, kind="stable")].reshape(batch_size, steps)
    batches = np.empty((steps, batch_size), np.int64)
    tokens = np.zeros(steps, np.int64)
    for number, stratum in enumerate(strata):
        longest_first = stratum[np.argsort(-lengths[stratum], kind="stable")]
        emptiest_first = np.argsort(tokens, kind="stable")
        batches[emptiest_first, number] = longest_first
        tokens[emptiest_first] += lengths[longest_first]
    order[: len(whole)] = rng.permutation(batches).ravel()
    return order
