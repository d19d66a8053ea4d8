"""How `evaluate` and `predict` start: with the other processes of the cluster, if there is one, and a watchdog."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from jaxft.config import Config
from jaxft.core import backend, watchdog
from jaxft.core.signals import Watch


@contextmanager
def joined(config: Config) -> Iterator[backend.Runtime]:
    """Start the backend; in the context, the failure or death of one process, or a signal to it, ends all."""
    chosen = backend.start(
        distributed=config.runtime.distributed,
        precision=config.runtime.precision,
        compile_cache=config.runtime.compile_cache,
        start_timeout=config.runtime.start_timeout,
        heartbeat_timeout=config.runtime.heartbeat_timeout,
    )
    dog = watchdog.of_run(stall=config.runtime.stall, heartbeat=config.runtime.heartbeat_timeout, alone=False)
    with Watch() if chosen.processes > 1 else nullcontext(), dog:
        yield chosen
