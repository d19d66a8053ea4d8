"""How often each label occurs in a split, and how much two splits differ in that."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np


@dataclass(frozen=True)
class Drift:
    """The difference between the label shares of two splits.

    Attributes:
      total_variation: half the sum of the differences of all shares; the share of the examples of one split that would have
        to change their label.
      by_chance: the total variation that two samples of this size from one distribution have on average.
      jensen_shannon: the Jensen-Shannon distance to base 2, from 0 to 1.
      labels: (label, share in the first split, share in the second), the largest difference first.
    """

    total_variation: float
    by_chance: float
    jensen_shannon: float
    labels: Sequence[tuple[str, float, float]]


def label_counts(labels: Iterable[Sequence[str]]) -> Counter[str]:
    """The number of times that each label occurs, from the labels of each row."""
    return Counter(chain.from_iterable(labels))


def drift(first: Mapping[str, int], second: Mapping[str, int]) -> Drift:
    """Compare the counts of labels in two splits, neither of which is empty."""
    from scipy.spatial.distance import jensenshannon

    names = [*dict.fromkeys([*first, *second])]
    counts = np.array([[split.get(name, 0) for name in names] for split in (first, second)], np.float64)
    sizes = counts.sum(1)
    p, q = counts / sizes[:, None]
    both = counts.sum(0) / sizes.sum()
    # The difference of two shares is nearly normal, and the mean of |x| is sqrt(2 / pi) times its standard deviation.
    deviation = np.sqrt(both * (1 - both) * (1 / sizes).sum())
    order = np.argsort(-np.abs(p - q), kind="stable")
    return Drift(
        float(np.abs(p - q).sum() / 2),
        float(np.sqrt(2 / np.pi) * deviation.sum() / 2),
        float(np.nan_to_num(jensenshannon(p, q, base=2))),
        [(names[i], float(p[i]), float(q[i])) for i in order],
    )
