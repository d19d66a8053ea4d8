"""Count the seconds of compilation in this process, with old and new versions of JAX."""

from collections.abc import Callable
from typing import Any

import jax

EVENT = "/jax/core/compile/backend_compile_duration"


def listen() -> Callable[[], float]:
    """Start to count; the result returns the seconds so far, summed over programs that are compiled at the same time."""
    found: list[float] = []

    def heard(event: str, seconds: float, **_: Any) -> None:
        if event == EVENT:
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(heard)
    return lambda: round(sum(found), 1)
