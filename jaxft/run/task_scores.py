"""How good each of several tasks was in earlier evaluations, by which the sampler `validation` draws the next epochs.

Epochs are made ahead of the loop, in a thread. So that they do not depend on how far ahead, epoch e (from 0) is drawn by the
last evaluation before epoch e - 1 began, and its thread waits until the loop has come so far.
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError

Recorded = Sequence[tuple[int, Mapping[str, float]]]  # (step, quality of each task), the last one of each epoch


class TaskScores:
    """The qualities of the tasks by step; see `tasks.several.quality`.

    Args of the constructor:
      names: of the tasks.
      steps_per_epoch: of the run.
    """

    def __init__(self, names: Sequence[str], steps_per_epoch: int) -> None:
        self._names, self._steps_per_epoch = tuple(names), steps_per_epoch
        self._recorded: list[tuple[int, Mapping[str, float]]] = []
        self._reached, self._closed = 0, False
        self._changed = threading.Condition()

    def of_epoch(self, epoch: int) -> tuple[float, ...] | None:
        """The quality of each task by which an epoch is drawn; None if none is known. Waits for the loop.

        Raises:
          CancelledError: if `close` is called meanwhile.
        """
        limit = (epoch - 1) * self._steps_per_epoch
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._reached >= limit)
            if self._reached < limit:
                raise CancelledError
            known = [qualities for step, qualities in self._recorded if step <= limit]
        return tuple(known[-1][name] for name in self._names) if known else None

    def add(self, step: int, qualities: Mapping[str, float]) -> Recorded:
        """Record an evaluation, unless a task has no quality in it, and return what a checkpoint must hold.

        Only the last evaluation of each epoch is kept: the others decide nothing.
        """
        with self._changed:
            if qualities.keys() >= set(self._names):
                epochs = self._steps_per_epoch
                kept = [x for x in self._recorded if (x[0] - 1) // epochs != (step - 1) // epochs]
                self._recorded = [*kept, (step, dict(qualities))]
            return list(self._recorded)

    def begin(self, recorded: Recorded, step: int) -> None:
        """Begin at a step, with what a checkpoint of it holds."""
        with self._changed:
            self._recorded = [(int(at), qualities) for at, qualities in recorded]
            self._reached, self._closed = step, False

    def reach(self, step: int) -> None:
        """Tell that all evaluations up to this step are added."""
        with self._changed:
            self._reached = max(self._reached, step)
            self._changed.notify_all()

    def __enter__(self) -> "TaskScores":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait no longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
