"""What an evaluation changes: the best score, early stopping, and the learning rate on a plateau."""

from dataclasses import dataclass, replace

from jaxft import optim
from jaxft.config import Config, OptimConfig


@dataclass(frozen=True)
class Progress:
    """The state of a run apart from its arrays, which every checkpoint contains.

    Attributes:
      best_step, best_score: of the best evaluation so far.
      bad_evaluations: evaluations since then.
      stopped: whether early stopping has ended the run.
      plateau: factor of the learning rate after reductions on plateaus.
      plateau_bad: evaluations without a better score since the last reduction.
    """

    best_step: int | None = None
    best_score: float | None = None
    bad_evaluations: int = 0
    stopped: bool = False
    plateau: float = 1.0
    plateau_bad: int = 0


def next_progress(config: Config, progress: Progress, step: int, score: float | None, *, higher: bool) -> Progress:
    """The progress after an evaluation; `best_step` is `step` if it is the best so far.

    Args:
      config: of the run (`train.min_delta`, `train.patience`, `optim`).
      progress: before the evaluation.
      step: steps done.
      score: of the metric that chooses the best model; None, an unknown score, is never better.
      higher: whether a higher score is better.
    """
    best = progress.best_score
    gain = None if best is None or score is None else (score - best) * (1 if higher else -1)
    better = score is not None and (gain is None or gain > config.train.min_delta)
    bad = 0 if better else progress.bad_evaluations + 1
    patience = config.train.patience
    plateau, plateau_bad = next_plateau(config.optim, progress, better)
    after = replace(
        progress,
        bad_evaluations=bad,
        stopped=patience is not None and bad >= patience,
        plateau=plateau,
        plateau_bad=plateau_bad,
    )
    return replace(after, best_step=step, best_score=score) if better else after


def next_plateau(config: OptimConfig, progress: Progress, better: bool) -> tuple[float, int]:
    """`plateau` and `plateau_bad` after an evaluation, as torch's ReduceLROnPlateau computes them."""
    bad = 0 if better else progress.plateau_bad + 1
    if config.schedule != optim.PLATEAU:
        return 1.0, 0
    if bad > config.plateau_patience:
        return progress.plateau * config.plateau_factor, 0
    return progress.plateau, bad
