"""A trace of some steps by JAX's profiler, for TensorBoard's profile tab or Perfetto (`log.profile_steps`)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jax

FOLDER = "profile"


class ProfilerWindow:
    """Traces the calls of the program that contain steps of the window; every process traces its own devices.

    Args of the constructor:
      steps: the first and the last step, numbered from 1; None traces nothing.
      directory: of the run; the trace is written to its folder `profile`.
      wait: waits until the device has done all steps that were sent, at the two ends of the window only.
    """

    def __init__(
        self, steps: Sequence[int] | None, directory: Path, wait: Callable[[], object], say: Callable[[str], None]
    ) -> None:
        self._window = range(steps[0] - 1, steps[1]) if steps else range(0)
        self._folder, self._wait, self._say = directory / FOLDER, wait, say
        self._traced: range | None = None  # the steps of the trace that is being made

    @contextmanager
    def around(self, steps: range) -> Iterator[None]:
        """The context in which a call is sent to the device; its steps are numbered from 0."""
        if self._traced is None and steps.start < self._window.stop and steps.stop > self._window.start:
            self._wait()
            jax.profiler.start_trace(str(self._folder))
            self._traced = steps
        with jax.profiler.StepTraceAnnotation("train", step_num=steps.start + 1):
            yield
        if self._traced is not None:
            self._traced = range(self._traced.start, steps.stop)
            if steps.stop >= self._window.stop:
                self.close()

    def close(self, *, wait: bool = True) -> None:
        """Write the trace if one was begun; after an error, do not wait for its steps."""
        if self._traced is None:
            return
        first, last = self._traced.start + 1, self._traced.stop
        self._traced = None
        if wait:
            self._wait()
        jax.profiler.stop_trace()
        self._say(f"the profiler's trace of steps {first} to {last} is in {self._folder}")
