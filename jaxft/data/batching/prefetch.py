"""Makes batches ahead of the device, in threads: each process builds only the rows of its devices."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxft.data.batching.batch_sampler import EpochBatches
from jaxft.data.tokens.encode import Examples

T = TypeVar("T")


def local_rows(sharding: NamedSharding, rows: int) -> np.ndarray:
    """The rows of a micro-batch that are on this process's devices, ascending, int64 (axis 1 of a [K, R, ...] batch).

    They need not be neighbours: the mesh of a TPU pod follows the links between its chips, across hosts.
    """
    indices = sharding.addressable_devices_indices_map((1, rows))
    spans = sorted({index[1].indices(rows)[:2] for index in indices.values() if index is not None})
    return np.concatenate([np.arange(*span) for span in spans])


def put(batch: dict[str, np.ndarray], sharding: NamedSharding, rows: int) -> dict[str, jax.Array]:
    """Makes global device arrays [K, rows, ...] of host arrays with this process's rows, in the order of `local_rows`."""
    if sharding.is_fully_addressable:  # the same, without the costs of each array
        return jax.device_put(batch, sharding)
    return {
        name: jax.make_array_from_process_local_data(sharding, x, (x.shape[0], rows, *x.shape[2:]))
        for name, x in batch.items()
    }


def device_batch(
    batches: EpochBatches, examples: Examples, steps: Sequence[int], sharding: NamedSharding
) -> dict[str, jax.Array]:
    """Builds the arrays of steps of one shape on the devices, their micro-batches concatenated: [steps * K, R, ...].

    Args:
      batches, examples: of an epoch.
      steps: their numbers in the epoch, from 0.
      sharding: `parallel.sharding.batch_sharding`.
    """
    rows = batches.shape(steps[0]).rows // batches.sampler.micro_batches
    parts = [batches.batch(examples, step, local_rows(sharding, rows)) for step in steps]
    batch = parts[0] if len(parts) == 1 else {name: np.concatenate([x[name] for x in parts]) for name in parts[0]}
    return put(batch, sharding, rows)


def prefetch(items: Iterator[Any], make: Callable[[Any], T], depth: int) -> Iterator[T]:
    """`map(make, items)` in a thread that works up to `depth` items ahead; exceptions are raised at the item they are of."""
    end: Any = object()

    def make_next() -> T:
        item = next(items, end)
        return end if item is end else make(item)

    thread = ThreadPoolExecutor(1, "jaxft-prefetch")
    try:
        ahead = deque(thread.submit(make_next) for _ in range(depth + 1))
        while (result := ahead.popleft().result()) is not end:
            ahead.append(thread.submit(make_next))
            yield result
    finally:
        thread.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Epoch:
    """The examples of an epoch, their batches, and a line for the log if there is something to say of them."""

    batches: EpochBatches
    examples: Examples
    line: str = ""


class Epochs:
    """The current and the next epoch of a run of `count` epochs; `make` makes an epoch by its number.

    Computing the batches of ten million examples, and augmenting them, takes many seconds, for which the first step of an
    epoch would have to wait.
    """

    def __init__(self, make: Callable[[int], Epoch], count: int) -> None:
        self._make, self._count = make, count
        self.closed = False
        self._thread = ThreadPoolExecutor(1, "jaxft-batches")
        self._futures: dict[int, Future[Epoch]] = {}

    def epoch(self, epoch: int) -> Epoch:
        """Waits for an epoch, and starts to make the next one."""
        wanted = range(epoch, min(epoch + 2, self._count))
        futures = self._futures
        self._futures = {n: futures.get(n) or self._thread.submit(self._make, n) for n in wanted}
        return self._futures[epoch].result()

    def close(self) -> None:
        """Stop making epochs; `closed` tells it to one that is being made."""
        self.closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)
