"""Puts batches on the devices: each process builds only its rows, in a thread that works ahead of the device."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxft.data.batching.batch_sampler import EpochBatches
from jaxft.data.tokens.encode import Examples

T = TypeVar("T")


def local_rows(sharding: NamedSharding, rows: int) -> slice:
    """The rows of a micro-batch that are on this process's devices (axis 1 of a [K, R, ...] batch)."""
    indices = sharding.addressable_devices_indices_map((1, rows))
    spans = [index[1].indices(rows)[:2] for index in indices.values() if index is not None]
    return slice(min(a for a, _ in spans), max(b for _, b in spans))


def put(batch: dict[str, np.ndarray], sharding: NamedSharding, rows: int) -> dict[str, jax.Array]:
    """Makes global device arrays [K, rows, ...] of host arrays with this process's rows."""

    def make_global(x: np.ndarray) -> jax.Array:
        return jax.make_array_from_process_local_data(sharding, x, (x.shape[0], rows, *x.shape[2:]))

    return {name: make_global(x) for name, x in batch.items()}


def device_batch(
    batches: EpochBatches, examples: Examples, steps: Sequence[int], sharding: NamedSharding
) -> dict[str, jax.Array]:
    """Builds the arrays of steps of one shape on the devices, their micro-batches concatenated: [steps * K, R, ...]."""
    rows = batches.shape(steps[0]).rows // batches.sampler.micro_batches
    parts = [batches.batch(examples, step, local_rows(sharding, rows)) for step in steps]
    batch = parts[0] if len(parts) == 1 else {name: np.concatenate([x[name] for x in parts]) for name in parts[0]}
    return put(batch, sharding, rows)


def prefetch(items: Iterator[Any], make: Callable[[Any], T], depth: int) -> Iterator[T]:
    """`map(make, items)` in a thread that works up to `depth` items ahead; exceptions are raised at the item they are of."""
    results: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def offer(message: tuple[bool, Any]) -> bool:
        while not stop.is_set():
            try:
                results.put(message, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not offer((True, make(item))):
                    return
            offer((False, None))
        except BaseException as error:  # noqa: BLE001 (it is raised again in the consumer)
            offer((False, error))

    thread = threading.Thread(target=work, name="jaxft-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            more, value = results.get()
            if not more:
                if value is not None:
                    raise value
                return
            yield value
    finally:
        stop.set()
        thread.join()
