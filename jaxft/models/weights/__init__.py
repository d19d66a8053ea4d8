"""Weight files: reading and writing tensors, their names, and matching them to a model's parameters."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: its shape and dtype, and a function that reads it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
