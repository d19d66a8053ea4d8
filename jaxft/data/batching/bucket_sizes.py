"""Chooses bucket sizes, each of which has to be compiled."""

import numpy as np

from jaxft.core.ragged import offsets_of

MULTIPLE = 8  # row lengths are multiples of this, since accelerators' tiles and cuDNN require aligned lengths
COMPILE = 25  # compiling one more shape takes about as long as this many steps


def choose_bucket_sizes(needs: np.ndarray, most: int, price: float) -> list[int]:
    """Chooses at most `most` bucket sizes, the largest need among them, at minimal total cost.

    The cost of a need is the smallest size that is not below it, and every size also costs `price` times the largest need.
    The choice is exact, by dynamic programming over the distinct needs.

    Args:
      needs: int [steps].
      most: the maximum number of sizes.
      price: cost of a size, in steps of the largest size.
    """
    values, counts = np.unique(needs, return_counts=True)
    total, n = offsets_of(counts), len(values)
    best = np.append(0, np.full(n, np.inf))  # the lowest cost of the first j values in k sizes
    choices, sums = [], []
    for k in range(1, min(most, n) + 1):
        costs = (best[:j] + (total[j] - total[:j]) * values[j - 1] for j in range(1, n + 1))
        lowest = [(cost.min(), int(cost.argmin())) for cost in costs]
        best = np.array([np.inf, *(cost for cost, _ in lowest)])
        choices.append([before for _, before in lowest])
        sums.append(best[n] + price * values[-1] * k)
    sizes, j = [], n
    for choice in reversed(choices[: int(np.argmin(sums)) + 1]):
        sizes.append(int(values[j - 1]))
        j = choice[j - 1]
        if j == 0:
            break
    return sizes[::-1]


def round_up(value, multiple: int):  # type: ignore[no-untyped-def]  # int or array
    """The smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple
