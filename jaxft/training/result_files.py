"""Files of a run that people and other programs look for: report.html, trainer_state.json and all_results.json."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxft.core import distributed
from jaxft.core.errors import UserError, one_line
from jaxft.core.output import writing
from jaxft.report.page import FILE, write_report
from jaxft.report.run_files import METRICS, json_lines
from jaxft.run.setup import Run
from jaxft.training.callbacks import Callback, End, Evaluation

RESULTS, STATE = "all_results.json", "trainer_state.json"


class Faults:
    """For files about a run that are no part of it: an exception does not end the run, and is said when it is new."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: set[Path] = set()  # files that could not be written the last time

    @contextmanager
    def said(self, path: Path) -> Iterator[None]:
        """A context that writes a file."""
        try:
            yield
            self._said.discard(path)
        except Exception as error:  # noqa: BLE001
            if path not in self._said:
                self._say(f"{path} could not be written: {_said(error, path)}")
            self._said.add(path)


@contextmanager
def saying_faults(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """For a file about a run that is written once, and is no part of it: an exception is said, and does not end the run."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        say(f"{path} could not be written: {_said(error, path)}")


def _said(error: Exception, path: Path) -> str:
    """What an error says: that of a disk without the path, others with their type."""
    if isinstance(error, UserError):
        return str(error).removeprefix(f"{path}: cannot be written: ")
    return (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {one_line(error)}"


class ResultFiles(Callback):
    """Writes the files at every evaluation and at the end, in the main process; the journal must be called before.

    The report is made of the other files.
    """

    def __init__(self, run: Run, directory: Path, say: Callable[[str], None]) -> None:
        self._run, self._directory, self._faults = run, directory, Faults(say)

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Write the state and the report."""
        self._write(evaluation.step)

    def on_end(self, end: End) -> None:
        """Write all files, with the scores as Hugging Face's scripts name them: `eval_accuracy`."""
        if distributed.is_main_process():
            numbers = {name.replace("/", "_"): x for name, x in end.results.items() if not isinstance(x, dict | list)}
            epoch = end.step / self._run.steps_per_epoch
            path = self._directory / RESULTS
            with self._faults.said(path):
                _write_json(path, {"epoch": epoch, "step": end.selected_step, **numbers, **end.times})
        self._write(end.step)

    def _write(self, step: int) -> None:
        if not distributed.is_main_process():
            return
        state, page = self._directory / STATE, self._directory / FILE
        with self._faults.said(state):
            _write_json(state, self._state(step))
        with self._faults.said(page):
            write_report([self._directory], page)

    def _state(self, step: int) -> dict[str, Any]:
        """The fields of Hugging Face's trainer_state.json that a run has."""
        run, rows = self._run, list(json_lines(self._directory / METRICS))
        name, sign = f"eval/{run.metric}", 1 if run.task.metrics[run.metric] else -1
        scores = [(row.get(name), -row["step"]) for row in rows if not row.get("final")]
        known = [(sign * score, step) for score, step in scores if score is not None and not math.isnan(score)]
        best, step_of_best = max(known, default=(None, None))
        return {
            "best_metric": None if best is None else sign * best,
            "best_global_step": None if step_of_best is None else -step_of_best,
            "epoch": step / run.steps_per_epoch,
            "eval_steps": run.calendar.evaluate,
            "global_step": step,
            "is_world_process_zero": True,
            "log_history": [_log_row(row) for row in rows if not row.get("final")],
            "logging_steps": run.config.log.every,
            "max_steps": run.total_steps,
            "num_train_epochs": run.config.train.epochs,
            "train_batch_size": run.config.train.batch_size,
        }


def _log_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("/", "_"): value for name, value in row.items()}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with writing(str(path)) as file:
        file.write(f"{json.dumps(content, indent=2)}\n".encode())
