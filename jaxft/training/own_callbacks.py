"""The callbacks of every run: checkpoints, metrics.jsonl, times, trackers, the files about the run, and the display."""

from collections.abc import Callable, Sequence
from pathlib import Path

from jaxft.core import distributed
from jaxft.core.phases import Clock
from jaxft.run.claim import Claim
from jaxft.run.setup import Run
from jaxft.training.callbacks import Callback
from jaxft.training.checkpoint import Checkpoints
from jaxft.training.display import Display
from jaxft.training.journal import Journal
from jaxft.training.notify import Notify
from jaxft.training.result_files import ResultFiles
from jaxft.training.running import RunningRun
from jaxft.training.save_checkpoints import SaveCheckpoints
from jaxft.training.time_left import TimeLeft
from jaxft.training.times import Times
from jaxft.training.trackers import make_trackers


def make_callbacks(
    run: Run,
    directory: Path,
    start: int,
    checkpoints: Checkpoints,
    claim: Claim | None,
    users: Sequence[Callback],
    clock: Clock,
    *,
    evaluates: bool = False,
) -> tuple[Notify, Callable[[str], None], Times]:
    """The callbacks of a run from step `start` on, whose evaluation comes first if `evaluates`.

    Returns:
      (the callbacks in the order of their calls, the user's last, a function that prints a line, the times).
    """
    log = run.config.log
    display = Display(log, start_step=start, clock=clock, time_left=TimeLeft(clock, run.calendar, _last(run)))
    times = Times(directory, start, clock, display.say)
    own: list[Callback] = [
        SaveCheckpoints(checkpoints, claim),
        Journal(directory, start, display.say, evaluates=evaluates),
        times,
    ]
    own += make_trackers(log, directory, start)
    own += [ResultFiles(run, directory, display.say)] if log.report else []
    running = RunningRun(run, directory, start, distributed.is_main_process(), display.say)
    return Notify([*own, display], users, running), display.say, times


def _last(run: Run) -> float:
    """Evaluations at the end, in units of those during training, by their examples."""
    sizes = {split: len(run.data[split].examples) for split in ("validation", "test") if split in run.data}
    return sum(sizes.values()) / sizes["validation"] if "validation" in sizes else 0.0
