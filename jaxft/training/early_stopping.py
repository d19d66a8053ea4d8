"""What an evaluation changes: the best score, early stopping, and the learning rate on a plateau."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jaxft import optim
from jaxft.config import Config, OptimConfig


@dataclass(frozen=True)
class EvaluationState:
    """The state of a run apart from its arrays, which every checkpoint contains."""

    best_step: int | None = None
    best_score: float | None = None
    bad_evaluations: int = 0  # since the best one
    stopped: bool = False  # by early stopping or a callback
    plateau: float = 1.0  # factor of the learning rate after reductions on plateaus
    plateau_bad: int = 0  # evaluations without a better score since the last reduction
    scale: float = 1.0  # factor of the learning rate that callbacks have set
    scales: Sequence[tuple[int, float]] = ()  # (step, factor): hold from the first call that begins after the step
    stop_after: int | None = None  # training stops at the end of the first call that ends after this step
    evaluation_due: bool = False  # a signal has ended the evaluation of this step: a resumed run begins with it
    callbacks: Mapping[str, Any] = field(default_factory=dict)  # the states of callbacks
    task_scores: Sequence[tuple[int, Mapping[str, float]]] = ()  # by which epochs draw from tasks (`run.task_scores`)

    def asked(self, step: int, scale: float | None, stop: bool) -> "EvaluationState":
        """The progress when callbacks ask for a factor of the learning rate, or to stop, after a step."""
        scales = self.scales if scale is None else (*self.scales, (step, scale))
        after = step if stop and self.stop_after is None else self.stop_after
        return replace(self, scales=scales, stop_after=after)

    def at(self, start: int) -> "EvaluationState":
        """The progress when a call of the program begins that does the steps after `start`."""
        due = [factor for step, factor in self.scales if start > step]
        if not due:
            return self
        return replace(self, scale=due[-1], scales=tuple(x for x in self.scales if start <= x[0]))

    def is_over(self, step: int, total_steps: int) -> bool:
        """Whether a run that resumes at a step has nothing left to do."""
        return (step >= total_steps or self.stopped) and not self.evaluation_due

    def stops(self, done: int) -> bool:
        """Whether training stops after a call, when `done` steps are done, because a callback has asked for it."""
        return self.stop_after is not None and done > self.stop_after


def next_evaluation_state(
    config: Config, progress: EvaluationState, step: int, score: float | None, *, higher: bool
) -> EvaluationState:
    """The progress after an evaluation at a step; `best_step` is this step if it is the best so far.

    `score` is of the metric that chooses the best model; None or NaN, an unknown score, is never better.
    """
    best, patience = progress.best_score, config.train.patience
    better = (
        score is not None
        and not math.isnan(score)
        and (best is None or (score - best) * (1 if higher else -1) > config.train.min_delta)
    )
    bad = 0 if better else progress.bad_evaluations + 1
    plateau, plateau_bad = next_plateau(config.optim, progress, better)
    return replace(
        progress,
        best_step=step if better else progress.best_step,
        best_score=score if better else best,
        bad_evaluations=bad,
        stopped=patience is not None and bad >= patience,
        plateau=plateau,
        plateau_bad=plateau_bad,
    )


def next_plateau(config: OptimConfig, progress: EvaluationState, better: bool) -> tuple[float, int]:
    """`plateau` and `plateau_bad` after an evaluation, as torch's ReduceLROnPlateau computes them."""
    bad = 0 if better else progress.plateau_bad + 1
    if config.schedule != optim.PLATEAU:
        return 1.0, 0
    if bad > config.plateau_patience:
        return progress.plateau * config.plateau_factor, 0
    return progress.plateau, bad
