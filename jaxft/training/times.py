"""times.json: the seconds of each phase of a run over all its starts, and how many of them trained steps that count."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jaxft.core import distributed
from jaxft.core.output import writing
from jaxft.core.phases import PHASES, TRAINING, Clock
from jaxft.report.run_files import TIMES
from jaxft.training.callbacks import Callback, Checkpoint, Evaluation
from jaxft.training.result_files import Faults

EVERY = 10.0  # seconds between writings, besides those at checkpoints and evaluations
MOST_SAVED = 1000  # checkpoints, the latest of which are remembered


@dataclass
class Record:
    """What times.json holds, in seconds.

    Attributes:
      phases: of all starts together.
      counted: of training the steps that count: those that no later start has had to do again.
      saved: `counted` at each checkpoint, by step; a start that resumes there goes on from it.
      starts: how often the run was started.
      final: the entry of the final row of metrics.jsonl, and the number of steps then; a run that is started again after its
        end keeps its times.
    """

    phases: dict[str, float] = field(default_factory=dict)
    counted: float = 0.0
    saved: dict[str, float] = field(default_factory=dict)
    starts: int = 0
    final: dict[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Seconds of all phases."""
        return sum(self.phases.values())

    def resumed_at(self, step: int) -> float:
        """`counted` for a start that begins at a step."""
        return max((seconds for saved, seconds in self.saved.items() if int(saved) <= step), default=0.0)

    def entry(self) -> dict[str, Any]:
        """`time`, the seconds of each phase, and `goodput` (see `Times`)."""
        goodput = self.counted / self.total if self.total else 0.0
        return {"time": {name: round(x, 3) for name, x in self.phases.items()}, "goodput": round(goodput, 4)}


class Times(Callback):
    """Measures a run with a clock, and writes times.json in the main process.

    The goodput of a run is the share of its time that went into steps that count (Google's ML goodput: productive step
    time by total time). Its time is that of all its starts together, from the command to the end, without the pauses
    between them. Productive is what the clock calls training: the step loop with its waits and the callbacks of steps,
    without compiling, evaluating and saving. Steps after the checkpoint at which a later start resumes were done in vain:
    their time is training, but does not count. What a killed start did after it wrote the file last, up to 10 s or
    `log.every` steps, is not known, and neither are starts whose times.json was lost.
    """

    def __init__(self, directory: Path, start_step: int, clock: Clock, say: Callable[[str], None]) -> None:
        self._path, self._clock, self._start_step, self._faults = directory / TIMES, clock, start_step, Faults(say)
        self._before = before = _read(self._path, say)
        self._kept = before if before.final and before.final.get("step") == start_step > 0 else None
        self._saved = {step: x for step, x in before.saved.items() if int(step) <= start_step}
        self._final: dict[str, Any] = {}
        self._last = -math.inf

    def record(self) -> Record:
        """The times until now."""
        if self._kept:
            return self._kept
        here = self._clock.all_seconds()
        phases = {name: self._before.phases.get(name, 0.0) + here[name] for name in PHASES}
        counted = self._before.resumed_at(self._start_step) + here[TRAINING]
        return Record(phases, counted, self._saved, self._before.starts + 1, self._final)

    def final(self, step: int) -> dict[str, Any]:
        """The entry of the final row at the end of a run of this many steps; the same if the run is started again."""
        record = self.record()
        if not self._kept:
            self._final = {"step": step, "entry": record.entry()}
            self._write()
        return record.final["entry"] if self._kept else self._final["entry"]

    def line(self) -> str:
        """Phases from the longest on, without those below 1 %, and the goodput."""
        record = self.record()
        longest = sorted(record.phases.items(), key=lambda x: -x[1])
        shown = ", ".join(f"{name} {x:.1f} s" for name, x in longest if x >= record.total / 100)
        starts = f" in {record.starts} starts" if record.starts > 1 else ""
        return f"time{starts}: {shown}; goodput {record.entry()['goodput']:.0%}"

    def on_log(self, row: Mapping[str, Any]) -> None:
        """Write the file if it is old."""
        if time.monotonic() - self._last >= EVERY:
            self._write()

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Write the file, which the report reads."""
        self._write()

    def on_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Remember the seconds that count until here."""
        self._saved = dict([*self._saved.items(), (str(checkpoint.step), round(self.record().counted, 3))][-MOST_SAVED:])
        self._write()

    def close(self) -> None:
        """Write the file."""
        self._write()

    def _write(self) -> None:
        self._last = time.monotonic()
        if self._kept or not distributed.is_main_process():
            return
        with self._faults.said(self._path), writing(str(self._path)) as file:
            file.write(f"{json.dumps(asdict(self.record()))}\n".encode())


def _read(path: Path, say: Callable[[str], None]) -> Record:
    """The record of earlier starts; a damaged one is no reason not to train."""
    try:
        return _checked(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Record()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        say(f"{path}: is damaged, so the times of earlier starts are not known")
        return Record()


def _checked(found: dict[str, Any]) -> Record:
    """The record, if it is one. Raises ValueError, TypeError, KeyError, AttributeError or OverflowError otherwise."""
    record = Record(**found)
    entry = record.final and record.final["entry"]
    if entry and not all(_is_seconds(x) for x in [record.final["step"], entry["goodput"], *entry["time"].values()]):
        raise ValueError("its final entry is none")
    numbers = [record.counted, *record.phases.values(), *record.saved.values(), *map(int, record.saved), record.starts]
    if not all(map(_is_seconds, numbers)):
        raise ValueError("a number of seconds is none")
    if not set(record.phases) <= set(PHASES) or (entry and not entry["time"]):
        raise ValueError("it has other phases")
    return record


def _is_seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value >= 0
