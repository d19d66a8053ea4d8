"""The order of an epoch's examples: random, but with nearly the same number of tokens in every step."""

import numpy as np

from jaxft.core.random_streams import host_generator

# Standard deviation of the noise on the logarithm of lengths before examples are sorted into strata. Without noise, examples
# of similar length would never share a step. With 0.3, two that share a step do so again in the next epoch about as often as
# by chance, and the steps' numbers of tokens still differ by less than an example's length.
NOISE = 0.3


def epoch_order(lengths: np.ndarray, batch_size: int, seed: int | None, epoch: int) -> np.ndarray:
    """The examples in training order: a permutation that is a function of the arguments.

    Steps of full batches are stratified by length: each step takes one example from every stratum, and steps with fewer
    tokens so far get the longer examples of a stratum. So all steps need about the same number of rows, and one shape fits
    them. Every example is still equally likely in every step. A smaller last step holds a random remainder.

    Args:
      lengths: tokens of each example, [N].
      batch_size: examples per step.
      seed: None orders by length instead, longest first (for evaluation).
      epoch: each epoch has a different order.

    Returns:
      int64 [N].
    """
    if seed is None:
        return np.argsort(-lengths, kind="stable")
    rng = host_generator(seed, epoch)
    order = rng.permutation(len(lengths))
    steps = len(lengths) // batch_size
    stratified = order[: steps * batch_size]
    noisy = np.log(np.maximum(lengths[stratified], 1)) + NOISE * rng.standard_normal(len(stratified))
    strata = stratified[np.argsort(-noisy, kind="stable")].reshape(batch_size, steps)
    batches = np.empty((steps, batch_size), np.int64)
    tokens = np.zeros(steps, np.int64)
    for number, stratum in enumerate(strata):
        longest_first = stratum[np.argsort(-lengths[stratum], kind="stable")]
        emptiest_first = np.argsort(tokens, kind="stable")
        batches[emptiest_first, number] = longest_first
        tokens[emptiest_first] += lengths[longest_first]
    order[: len(stratified)] = rng.permutation(batches).ravel()
    return order
