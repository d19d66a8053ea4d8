"""Hooks of the training loop: what else happens at a step, an evaluation, a checkpoint and the end of a run.

The loop owns the order of events. Its own hooks save checkpoints, write metrics.jsonl and TensorBoard's files, and show the
progress; hooks of the user's own come after them (`train.hooks`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.object_reference import load_object
from jaxft.run.setup import Run
from jaxft.step.train_step import TrainState
from jaxft.training.checkpoint import Progress


@dataclass(frozen=True)
class Step:
    """An optimizer step whose metrics were read, which is when the next steps have been sent to the device.

    Attributes:
      number: steps done, from 1.
      epoch: passes over the training data, such as 1.5.
      loss: mean of the step with penalties; None where nothing in it had a weight.
      learning_rate: at the schedule's factor 1 for a parameter.
      grad_norm: before clipping.
      speed: `examples_per_second` and `tokens_per_second` since they were last read; None unless the step is one that is
        logged (`log.every`).
    """

    number: int
    epoch: float
    loss: float | None
    learning_rate: float
    grad_norm: float
    speed: Mapping[str, float] | None

    def row(self) -> dict[str, Any]:
        """As metrics.jsonl has it."""
        own = {"loss": self.loss, "learning_rate": self.learning_rate, "grad_norm": self.grad_norm}
        return {"step": self.number, "epoch": self.epoch, **own, **(self.speed or {})}


@dataclass(frozen=True)
class Evaluation:
    """An evaluation of the validation data.

    Attributes:
      step: steps done.
      epoch: passes over the training data.
      scores: by name, `loss` and perhaps a `note` among them; None for what cannot be known.
      metric: name of the one that chooses the best model.
      best: whether this evaluation is the best so far.
    """

    step: int
    epoch: float
    scores: Mapping[str, Any]
    metric: str
    best: bool

    def row(self) -> dict[str, Any]:
        """As metrics.jsonl has it; tables come at the end of the run only."""
        numbers = {f"eval/{name}": value for name, value in self.scores.items() if not isinstance(value, dict)}
        return {"step": self.step, "epoch": self.epoch, **numbers}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is due.

    Attributes:
      step: steps done.
      state: donated to the next step: a hook that needs its arrays later copies them.
      progress: of the run, with the best evaluation so far.
    """

    step: int
    state: TrainState
    progress: Progress


@dataclass(frozen=True)
class End:
    """The end of a run, whose parameters are chosen and about to be written to model/.

    Attributes:
      step: steps done.
      selected_step: whose parameters the run leaves.
      results: their scores, `eval/...` and `test/...`; empty without validation and test data.
    """

    step: int
    selected_step: int
    results: Mapping[str, Any]

    def row(self) -> dict[str, Any]:
        """As metrics.jsonl has it."""
        return {"step": self.step, "selected_step": self.selected_step, "final": True, **self.results}


class Hook:
    """A base class whose methods do nothing: override those that are wanted.

    Every process of a run has its own hooks; the main one alone should write files (`core.distributed.is_main_process`).
    What a hook raises ends the run. A hook that waits for the device, such as by reading `state`, slows training down.
    """

    def __init__(self, run: Run, directory: Path) -> None:
        """How a hook of the user's own is made, before the first step.

        Args:
          run: everything that is fixed by then: `run.config`, `run.total_steps`, `run.task` ...
          directory: of the run.
        """

    def on_step(self, step: Step) -> None:
        """Every step, in their order, one call of the program late; steps of one call follow each other at once."""

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Every evaluation of the validation data during training, after the steps before it."""

    def on_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Every checkpoint, after the evaluation of its step; own hooks are called when its writing has begun."""

    def on_end(self, end: End) -> None:
        """The end of a run, also of one that had ended before; not of one that a signal or an error stops."""

    def close(self) -> None:
        """Release what the hook holds, at the end and after an error."""


def load_hooks(config: Config) -> list[type[Hook]]:
    """The classes that `train.hooks` names.

    Raises:
      UserError: for a name that cannot be imported or is no `Hook`.
    """
    found = []
    for reference in config.train.hooks:
        hook = load_object(reference, "train.hooks")
        if not (isinstance(hook, type) and issubclass(hook, Hook)):
            raise UserError(f"train.hooks {reference}: is not a subclass of {Hook.__module__}.{Hook.__name__}")
        found.append(hook)
    return found
