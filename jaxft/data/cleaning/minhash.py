"""MinHash signatures in bands: sets that agree in two bands are candidates for near duplicates."""

import numpy as np

HASHES = 256
MISSED = 0.005  # the largest share of pairs with exactly the requested similarity that do not become candidates
SEED = 1


def missed(similarity: float, rows: int) -> float:
    """The share of pairs of a Jaccard similarity that agree in fewer than two bands of `rows` hashes.

    They agree in a band with probability p = s^rows (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4). Two of
    the bands are asked for, because that leaves out nearly all of the pairs of long texts that have a third of their
    shingles in common.
    """
    p, bands = similarity**rows, HASHES // rows
    return (1 - p) ** bands + bands * p * (1 - p) ** (bands - 1)


def rows_per_band(similarity: float) -> int:
    """Hashes of a band: as many as possible, so that few candidates are false, while few pairs are missed."""
    return max((rows for rows in range(1, HASHES // 2 + 1) if missed(similarity, rows) <= MISSED), default=1)


class Bands:
    """Computes the bands of sets of integers with datasketch's MinHash."""

    def __init__(self, similarity: float) -> None:
        from datasketch import MinHash

        self.rows = rows_per_band(similarity)
        self.count = HASHES // self.rows
        self._minhash = MinHash(self.count * self.rows, seed=SEED, hashfunc=int)
        self._mix = np.random.Generator(np.random.Philox(SEED)).integers(1 << 32, size=self.rows, dtype=np.uint64)

    def of(self, codes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """A number for each band of each set: uint32 [N, bands].

        Args:
          codes: the elements of all sets, int64 [S].
          offsets: where each set begins and the last one ends, int64 [N + 1].
        """
        hashed = ((codes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)).tolist()
        signatures = np.empty((len(offsets) - 1, self.count * self.rows), np.uint32)
        for i, (start, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
            self._minhash.clear()
            self._minhash.update_batch(hashed[start:end])
            signatures[i] = self._minhash.hashvalues
        return self._numbers(signatures.reshape(-1, self.count, self.rows))

    def _numbers(self, bands: np.ndarray) -> np.ndarray:
        mixed = np.zeros(bands.shape[:2], np.uint64)
        for i in range(self.rows):
            mixed = (mixed ^ bands[:, :, i]) * np.uint64(0x9E3779B97F4A7C15) + self._mix[i]
            mixed ^= mixed >> np.uint64(29)
        return (mixed >> np.uint64(32)).astype(np.uint32)
