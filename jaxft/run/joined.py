"""How `evaluate` and `predict` start: with the other processes of the cluster, if there is one, and a watchdog."""

from collections.abc import Iterator
from contextlib import contextmanager

from jaxft.config.training import RuntimeConfig
from jaxft.core import backend, watchdog


@contextmanager
def joined(runtime: RuntimeConfig) -> Iterator[backend.Runtime]:
    """Start the backend; in the context, a process that waits for another one that has failed or died ends as well."""
    chosen = backend.start(
        distributed=runtime.distributed,
        precision=runtime.precision,
        compile_cache=runtime.compile_cache,
        start_timeout=runtime.start_timeout,
        heartbeat_timeout=runtime.heartbeat_timeout,
    )
    with watchdog.of_run(stall=runtime.stall, heartbeat=runtime.heartbeat_timeout, alone=False):
        yield chosen
