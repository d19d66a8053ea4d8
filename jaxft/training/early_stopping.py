"""What an evaluation changes: the best so far, early stopping, and the learning rate on a plateau."""

from dataclasses import replace

from jaxft import optim
from jaxft.config import Config, OptimConfig
from jaxft.training.checkpoint import Progress


def next_progress(config: Config, progress: Progress, step: int, score: float | None, *, higher: bool) -> Progress:
    """The progress after an evaluation; its `best_step` is `step` where it is the best so far.

    Args:
      config: of the run (`train.min_delta`, `train.patience`, `optim`).
      progress: before it.
      step: steps done.
      score: of the metric that chooses the best model; None, which cannot be known, is never better.
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
    """(share of the learning rate, bad evaluations) after an evaluation, as torch's ReduceLROnPlateau counts them."""
    bad = 0 if better else progress.plateau_bad + 1
    if config.schedule != optim.PLATEAU:
        return 1.0, 0
    if bad > config.plateau_patience:
        return progress.plateau * config.plateau_factor, 0
    return progress.plateau, bad
