"""Callbacks of the training loop, which it calls at the start, a step, an evaluation, a checkpoint and the end of a run.

Its own callbacks save checkpoints, write metrics.jsonl, send its rows to trackers, and show the progress; those of the user
(`train.callbacks`, or `Trainer.train`) are called after them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.object_reference import load_object
from jaxft.step.train_step import TrainState
from jaxft.training.early_stopping import EvaluationState
from jaxft.training.running import RunningRun


@dataclass(frozen=True)
class Step:
    """An optimizer step whose metrics were read, after the next steps were sent to the device.

    Attributes:
      number: steps done, from 1.
      epoch: passes over the training data, such as 1.5.
      loss: mean of the step with penalties; None if no example had a weight.
      learning_rate: of a parameter whose factor in the plan is 1.
      grad_norm: before clipping.
      speed: since the last logged step, without compiling, evaluating and saving: `examples_per_second`,
        `tokens_per_second`, and the shares of time in which the loop waited for data, for the call that sends a step, and
        for the device: `share_data`, `share_dispatch`, `share_device`. None if this step is not logged (`log.every`).
      more: other metrics of the loss, such as `domains/accuracy`.
    """

    number: int
    epoch: float
    loss: float | None
    learning_rate: float
    grad_norm: float
    speed: Mapping[str, float] | None
    more: Mapping[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The row of metrics.jsonl."""
        own = {"loss": self.loss, "learning_rate": self.learning_rate, "grad_norm": self.grad_norm}
        return {"step": self.number, "epoch": self.epoch, **own, **self.more, **(self.speed or {})}


@dataclass(frozen=True)
class Evaluation:
    """An evaluation of the validation data.

    Attributes:
      step, epoch: steps done, and passes over the training data.
      scores: by name, with `loss` and perhaps a `note`; an unknown score is None.
      metric: name of the score that chooses the best model.
      best: whether this evaluation is the best so far.
    """

    step: int
    epoch: float
    scores: Mapping[str, Any]
    metric: str
    best: bool

    def row(self) -> dict[str, Any]:
        """The row of metrics.jsonl, without tables, which only the row of the end has."""
        numbers = {f"eval/{name}": value for name, value in self.scores.items() if not isinstance(value, dict)}
        return {"step": self.step, "epoch": self.epoch, **numbers}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is due.

    Attributes:
      step: steps done.
      state: donated to the next step, so a callback that needs its arrays later must copy them.
      progress: with the best evaluation so far.
    """

    step: int
    state: TrainState
    progress: EvaluationState


@dataclass(frozen=True)
class End:
    """The end of a run, when its parameters are selected and about to be written to model/.

    Attributes:
      step: steps done.
      selected_step: the step of the selected parameters.
      results: their scores, `eval/...` and `test/...`; empty without validation and test data.
      times: `time`, the seconds of each phase of the run so far, and its `goodput` (see `training.times`).
    """

    step: int
    selected_step: int
    results: Mapping[str, Any]
    times: Mapping[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The row of metrics.jsonl."""
        return {"step": self.step, "selected_step": self.selected_step, "final": True, **self.results, **self.times}


class Callback:
    """A base class whose methods do nothing: override those that you need.

    Every process of a run has its own callbacks; only the main one should write files (`self.run.is_main_process`). If a
    method raises an exception, the run is saved and ends. A callback that waits for the device, such as by reading `state`,
    slows training down.

    Attributes:
      run: the run, from `on_start` on. `self.run.stop()` and `self.run.scale_learning_rate(0.5)` may be called in `on_step`,
        `on_log` and `on_evaluation`.
    """

    run: RunningRun

    def on_start(self, run: RunningRun) -> None:
        """Called before the first step of a run, and before the next one if it is resumed (`self.run.start_step`)."""

    def on_step(self, step: Step) -> None:
        """Called for every step in order, one call of the program late, so for all steps of a call at once."""

    def on_log(self, row: Mapping[str, Any]) -> None:
        """Called for every row of metrics.jsonl: after `on_step`, but before `on_evaluation` and `on_end`, of the same."""

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Called for every evaluation of the validation data during training, after the steps before it."""

    def on_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Called for every checkpoint, after the evaluation of its step and, in the user's, the start of writing."""

    def on_end(self, end: End) -> None:
        """Called at the end of a run, also if it is resumed after its end, but not if a signal or an error stops it."""

    def close(self) -> None:
        """Release resources, at the end and after an error."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint records of this callback, as JSON, so that a resumed run is exactly the uninterrupted one."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Called before `on_start` of a resumed run with what `state` returned at its checkpoint."""


def load_callbacks(config: Config) -> list[Callback]:
    """The callbacks that `train.callbacks` names: objects, or classes, which are called without arguments.

    Raises:
      UserError: for a name that cannot be imported or is no callback.
    """
    callbacks = []
    for reference in config.train.callbacks:
        found = load_object(reference, "train.callbacks")
        if isinstance(found, type) and issubclass(found, Callback):
            try:
                found = found()
            except TypeError as error:
                raise UserError(f"train.callbacks {reference}: cannot be made without arguments: {error}") from error
        if not isinstance(found, Callback):
            raise UserError(f"train.callbacks {reference}: is not a subclass of jaxft.Callback")
        callbacks.append(found)
    return callbacks


def check_callbacks(callbacks: Sequence[Any]) -> None:
    """Raise a UserError for something that is no `Callback` object."""
    for callback in callbacks:
        if isinstance(callback, type) and issubclass(callback, Callback):
            raise UserError(f"callbacks: {callback.__name__} is a class: give an object, {callback.__name__}(...)")
        if not isinstance(callback, Callback):
            raise UserError(f"callbacks: {callback!r} is not an object of a subclass of jaxft.Callback")
