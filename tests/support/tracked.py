"""A run as trackers see it, without training: it is stopped at step 4, resumed at step 2, and ends at step 6."""

import json
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jaxft.config import Config, LogConfig, TrainConfig
from jaxft.training.trackers import make_trackers

FINAL = {"step": 6, "selected_step": 4, "final": True, "eval/accuracy": 0.75, "test/accuracy": 0.5, "eval/table": {"a": 1}}


def step_row(step: int) -> dict[str, Any]:
    return {"step": step, "epoch": step / 6, "loss": 1 / step, "learning_rate": 0.125, "note": "text", "unknown": None}


def evaluation_row(step: int) -> dict[str, Any]:
    return {"step": step, "epoch": step / 6, "eval/accuracy": step / 8, "eval/loss": None}


def rows_after(step: int, last: int) -> list[dict[str, Any]]:
    """A row for every step, and an evaluation at every second one, as `metrics.jsonl` has them."""
    rows = []
    for i in range(step + 1, last + 1):
        rows += [step_row(i), *([evaluation_row(i)] if i % 2 == 0 else [])]
    return rows


class Session:
    """A process that trains a run from a step on, with its trackers.

    Attributes:
      said: the lines that it printed.
    """

    def __init__(self, directory: Path, start: int, *names: Any, **log: Any) -> None:
        self.said: list[str] = []
        directory.mkdir(exist_ok=True)
        journal = "".join(f"{json.dumps(row)}\n" for row in rows_after(0, start))
        (directory / "metrics.jsonl").write_text(journal, encoding="utf-8")
        config = Config(train=TrainConfig(batch_size=16), log=LogConfig(trackers=list(names), **log))
        run: Any = SimpleNamespace(directory=directory, config=config, say=self.said.append)
        self.trackers = make_trackers(config.log, directory, start)
        for tracker in self.trackers:
            tracker.run = run
            tracker.on_start(run)

    def log(self, *rows: dict[str, Any]) -> "Session":
        for row in rows:
            for tracker in self.trackers:
                tracker.on_log(row)
        return self

    def end(self, error: BaseException | None = None) -> list[str]:
        """Close the trackers at the end, or as an error or a signal ends the run; returns what was said."""
        with suppress(BaseException):
            try:
                if error:
                    raise error
            finally:
                for tracker in self.trackers:
                    tracker.close()
        return self.said


def stopped_and_resumed(directory: Path, *names: Any, **log: Any) -> list[str]:
    """Steps 1 to 4, killed after the checkpoint of step 2, then steps 3 to 6 and the end; returns what was said."""
    said = Session(directory, 0, *names, **log).log(*rows_after(0, 4)).end(RuntimeError("out of memory"))
    return said + Session(directory, 2, *names, **log).log(*rows_after(2, 6), FINAL).end()
