"""Steps on word pieces: they become the mask token, or are left out."""

from dataclasses import dataclass

import numpy as np

from jaxft.data.augmentation.draws import Draws


@dataclass(frozen=True)
class MaskPieces:
    """Replaces each piece by the mask token with a probability; special tokens and those of answers stay."""

    rate: float
    mask_id: int

    def __call__(self, ids: np.ndarray, free: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """(ids after the step, which pieces are left): int32 and bool [pieces]; `free` says which may be edited."""
        chosen = (draws.array(len(ids)) < self.rate) & free
        return np.where(chosen, np.int32(self.mask_id), ids), np.ones(len(ids), bool)


@dataclass(frozen=True)
class DropPieces:
    """Leaves each piece out with a probability; special tokens stay, and one piece of each example at least."""

    rate: float

    def __call__(self, ids: np.ndarray, free: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """As in `MaskPieces`."""
        numbers = draws.array(len(ids))
        left = (numbers >= self.rate) | ~free
        if free.any() and not left[free].any():
            left[np.flatnonzero(free)[numbers[free].argmax()]] = True
        return ids, left


PieceStep = MaskPieces | DropPieces
