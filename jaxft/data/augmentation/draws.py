"""The random numbers of an augmented row: a function of the seed, the epoch and the number of the row alone."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from jaxft.core.random_streams import OfSeed, host_generator

T = TypeVar("T")
BLOCK = 32  # numbers that are drawn at once
WORDS, PIECES, PROPOSALS = range(3)  # parts of a row's stream


class Draws:
    """Random numbers of one row at a time: a generator whose counter is the number of the row."""

    def __init__(self, seed: int, epoch: int) -> None:
        self._generator = host_generator(seed, OfSeed.AUGMENTATION + epoch)
        self._bits = self._generator.bit_generator
        self._state = dict(self._bits.state)
        self._numbers: list[float] = []

    def begin(self, row: int, part: int = WORDS) -> None:
        """Go to the beginning of the numbers of a row, or of another part of them."""
        self._state["state"]["counter"] = np.array([0, 0, part, row], np.uint64)
        self._bits.state = self._state
        self._numbers.clear()

    def random(self) -> float:
        """A number from 0 to below 1."""
        if not self._numbers:
            self._numbers = self._generator.random(BLOCK).tolist()
        return self._numbers.pop()

    def below(self, count: int) -> int:
        """A whole number from 0 to below `count`."""
        return int(self.random() * count)

    def choice(self, items: Sequence[T]) -> T:
        """One of the items, each equally likely."""
        return items[int(self.random() * len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items in random order, or all if there are fewer."""
        left, chosen = list(items), []
        for _ in range(min(count, len(left))):
            i = int(self.random() * len(left))
            chosen.append(left[i])
            left[i] = left[-1]
            left.pop()
        return chosen

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """All items in random order."""
        return self.some(items, len(items))

    def array(self, count: int) -> np.ndarray:
        """Numbers from 0 to below 1, float64 [count]."""
        return self._generator.random(count)
