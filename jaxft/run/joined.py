"""How `evaluate` and `predict` start: with the other processes of the cluster, if there is one, and a watchdog."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from jaxft.config.training import RuntimeConfig
from jaxft.core import backend, watchdog
from jaxft.core.signals import Watch


@contextmanager
def joined(runtime: RuntimeConfig) -> Iterator[backend.Runtime]:
    """Start the backend; in the context, the failure or death of one process, or a signal to it, ends all."""
    chosen = backend.start(
        distributed=runtime.distributed,
        precision=runtime.precision,
        compile_cache=runtime.compile_cache,
        start_timeout=runtime.start_timeout,
        heartbeat_timeout=runtime.heartbeat_timeout,
    )
    dog = watchdog.of_run(stall=runtime.stall, heartbeat=runtime.heartbeat_timeout, alone=False)
    with Watch() if chosen.processes > 1 else nullcontext(), dog:
        yield chosen
