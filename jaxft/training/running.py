"""The run as callbacks see it: what they may read, and what they may ask of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.run.setup import Run

_LARGEST = float(np.finfo(np.float32).max)


@dataclass
class RunningRun:
    """A run that is being trained.

    Attributes:
      setup: everything that is fixed before the first step: model, task, data, plan.
      directory: `output_dir`.
      start_step: steps done before; above 0 if the run is resumed.
      is_main_process: whether this process writes files.
      say: prints a line above the progress bar.
    """

    setup: Run
    directory: Path
    start_step: int
    is_main_process: bool
    say: Callable[[str], None]
    asked: dict[str, Any] = field(default_factory=dict)  # what callbacks have asked for since the loop looked
    accepts: bool = False  # whether the loop looks after this event

    @property
    def config(self) -> Config:
        """The config of the run."""
        return self.setup.config

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, if it is not stopped."""
        return self.setup.total_steps

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self.setup.steps_per_epoch

    def stop(self) -> None:
        """End training as early stopping does: after an evaluation and a checkpoint, the best model becomes model/.

        The steps that the device has got already are done first: one call of the program after `on_step`, none after
        `on_evaluation`.
        """
        self._ask("stop", "stop()", True)

    def scale_learning_rate(self, factor: float) -> None:
        """From now on multiply the learning rate of the schedule by a factor; 1 undoes it. Checkpoints record it.

        After `on_evaluation` it holds from the next step on, after `on_step` from the next call of the program that the
        device has not got yet: the second step after this one, unless a call does several (`runtime.steps_per_execution`).
        """
        if not (isinstance(factor, Real) and 0 <= factor <= _LARGEST):
            raise UserError(f"scale_learning_rate({factor!r}): must be a finite number in float32, 0 or more")
        self._ask("scale", "scale_learning_rate()", float(factor))

    def _ask(self, name: str, call: str, value: Any) -> None:
        if not self.accepts:
            raise UserError(f"{call}: may be called in on_step, on_log and on_evaluation only")
        self.asked[name] = value
