"""Which sizes to declare, when every size that there is has to be compiled."""

import numpy as np

from jaxft.core.ragged import offsets_of

MULTIPLE = 8  # row lengths are multiples of this; accelerators' tiles and cuDNN want even, aligned lengths
COMPILE = 25  # steps that take about as long as compiling one more shape


def choose_bucket_sizes(needs: np.ndarray, most: int, price: float) -> list[int]:
    """At most `most` sizes, the largest need among them, that minimise the sum of sizes when each need takes the next
    larger size and every size costs `price` of the largest (exact, by dynamic programming over the distinct needs)."""
    values, counts = np.unique(needs, return_counts=True)
    total = offsets_of(counts)
    n = len(values)
    best = np.full(n + 1, np.inf)
    best[0] = 0
    choice = np.zeros((min(most, n) + 1, n + 1), np.int64)
    sums = []
    for k in range(1, min(most, n) + 1):
        current = np.full(n + 1, np.inf)
        for j in range(1, n + 1):
            costs = best[:j] + (total[j] - total[:j]) * values[j - 1]
            choice[k, j] = int(np.argmin(costs))
            current[j] = costs[choice[k, j]]
        best = current
        sums.append(best[n] + price * values[-1] * k)
    ladder = []
    j = n
    for k in range(int(np.argmin(sums)) + 1, 0, -1):
        ladder.append(int(values[j - 1]))
        j = choice[k, j]
        if j == 0:
            break
    return sorted(ladder)


def round_up(value, multiple: int):  # type: ignore[no-untyped-def]  # int or array
    """The next multiple."""
    return -(-value // multiple) * multiple
