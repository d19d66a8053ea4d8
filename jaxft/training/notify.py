"""Calls the callbacks of a run: the loop's own, then the user's, whose failures wait until the run is saved."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from jaxft.core import distributed
from jaxft.core.errors import CallbackError, UserError, one_line
from jaxft.training.callbacks import Callback, Checkpoint, End, Evaluation, Step
from jaxft.training.running import RunningRun


class Notify:
    """The callbacks of a run.

    One of the user's that has failed is not called again; the others are, so that they see what is saved.

    Args of the constructor:
      own, users: the loop's own callbacks and the user's, in the order of their calls.
      run: given to all of them.

    Attributes:
      failure: the first exception of a callback of the user's, in any process; the loop saves the run and raises it.
    """

    def __init__(self, own: Sequence[Callback], users: Sequence[Callback], run: RunningRun) -> None:
        self._own, self._users, self.run = own, users, run
        self.failure: CallbackError | None = None
        self._failed: list[Callback] = []
        self._shared = False  # whether all processes know the failure
        for callback in (*own, *users):
            callback.run = run

    def start(self, states: dict[str, Any]) -> None:
        """Restore the user's callbacks from the states that a checkpoint recorded, and call `on_start`."""
        for name, callback in self._named():
            if name in states:
                self._call("restore", callback, lambda x, state=states[name]: x.restore(state), "")
        self._send("on_start", lambda x: x.on_start(self.run))
        self._share_failure()

    def step(self, step: Step) -> None:
        """Call `on_step`, and `on_log` if the step is logged."""
        where = f" at step {step.number}"
        self.run.accepts = True
        self._send("on_step", lambda x: x.on_step(step), where)
        if step.speed is not None:
            self._log(step.row(), where)
        self.run.accepts = False

    def evaluation(self, evaluation: Evaluation) -> None:
        """Call `on_log` and `on_evaluation`."""
        where = f" at step {evaluation.step}"
        self.run.accepts = True
        self._log(evaluation.row(), where)  # first: metrics.jsonl, which the report reads
        self._send("on_evaluation", lambda x: x.on_evaluation(evaluation), where)
        self.run.accepts = False

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Call `on_checkpoint`."""
        self._send("on_checkpoint", lambda x: x.on_checkpoint(checkpoint), f" at step {checkpoint.step}")
        self._share_failure()

    def end(self, end: End) -> None:
        """Call `on_log` if there are results, and `on_end`.

        Raises:
          CallbackError: if a callback of the user's fails.
        """
        where = f" at step {end.step}"
        if end.results:
            self._log(end.row(), where)
        self._send("on_end", lambda x: x.on_end(end), where)
        self._share_failure()
        self.raise_failure("all steps are saved")

    def close(self) -> None:
        """Call `close` of all, whatever fails.

        Raises:
          CallbackError: if one of the user's fails.
        """
        with ExitStack() as stack:
            for callback in self._own:
                stack.callback(callback.close)
            for callback in self._users:
                stack.callback(self._close, callback)

    def _close(self, callback: Callback) -> None:
        before = self.failure
        self._call("close", callback, lambda x: x.close(), "")
        if self.failure is not before:
            self.raise_failure("all else is done")

    def taken(self) -> tuple[float | None, bool]:
        """(the factor of the learning rate that callbacks asked for, whether they asked to stop) since the last call.

        With several processes, what the main one asks for; a failure in any of them is one in all from now on.
        """
        scale, stop = self.run.asked.pop("scale", None), bool(self.run.asked.pop("stop", False))
        scale = None if scale is None else float(np.float32(scale))
        if not self._users or distributed.process_count() == 1:
            return scale, stop
        bits = 0 if scale is None else int(np.float32(scale).view(np.int32)) + 1
        rows = distributed.gather_rows([bits, int(stop), int(self.failure is not None)])
        self._share_failure([failed for *_, failed in rows])
        bits, stop, _ = rows[0]
        return (float(np.int32(bits - 1).view(np.float32)) if bits else None), bool(stop)

    def states(self) -> dict[str, Any]:
        """What the user's callbacks record in a checkpoint, by name."""
        states = {}
        for name, callback in self._named():
            lost = ", so its state is not in the checkpoint"
            if state := self._call("state", callback, lambda x: _as_json(x.state()), lost):
                states[name] = state
        return states

    def raise_failure(self, saved: str) -> None:
        """Raise the failure, if there is any, with what is saved.

        Raises:
          CallbackError: the failure.
        """
        if self.failure is not None:
            raise CallbackError(f"{self.failure}; {saved}") from self.failure.__cause__

    def _share_failure(self, failed: Sequence[int] | None = None) -> None:
        """Make a failure in one process that of all, so that they save the run and end together.

        Args:
          failed: 1 for each process with a failure, 0 for the others; gathered if it is not given.
        """
        if self._shared or not self._users or distributed.process_count() == 1:
            return
        failed = failed or distributed.gather(int(self.failure is not None))
        if any(failed):
            texts, first = distributed.gather_texts(str(self.failure or "")), failed.index(1)
            self.failure = self.failure or CallbackError(f"process {first}: {texts[first]}")
            self._shared = True

    def _named(self) -> list[tuple[str, Callback]]:
        """The user's callbacks by class, with a number if there are several of a class."""
        names = [type(callback).__name__ for callback in self._users]
        counts = [names[:i].count(name) for i, name in enumerate(names)]
        return [(f"{x} {n}" if n else x, callback) for x, n, callback in zip(names, counts, self._users, strict=True)]

    def _log(self, row: dict[str, Any], where: str) -> None:
        self._send("on_log", lambda x: x.on_log(row), where)

    def _send(self, method: str, call: Callable[[Callback], None], where: str = "") -> None:
        for callback in self._own:
            call(callback)
        for callback in self._users:
            if callback not in self._failed:
                self._call(method, callback, call, where)

    def _call(self, method: str, callback: Callback, call: Callable[[Callback], Any], where: str) -> Any:
        """Call a method of one of the user's callbacks; a failure is kept."""
        try:
            return call(callback)
        except Exception as error:  # noqa: BLE001
            name = f"{type(callback).__name__}.{method}"
            failure = CallbackError(f"callback {name} failed{where}: {type(error).__name__}: {one_line(error)}")
            failure.__cause__ = error
            self.failure = self.failure or failure
            self._failed.append(callback)
        return None


def _as_json(state: Any) -> Any:
    """A copy of a callback's state. Raises a UserError if it is not a dict that JSON can hold."""
    try:
        copied = json.loads(json.dumps(state))
    except (TypeError, ValueError) as error:
        raise UserError(f"state is not JSON: {one_line(error)}") from error
    if not isinstance(copied, dict):
        raise UserError(f"state is a {type(state).__name__}: must be a dict")
    return copied
