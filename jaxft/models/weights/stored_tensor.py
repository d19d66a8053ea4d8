"""A tensor of a weight file that has not been read yet."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: what it is, and how to read it when it is wanted."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
