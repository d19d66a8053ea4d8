"""metrics.jsonl: a row for each logged step and each evaluation, and one for the end. Only the main process writes."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxft.core import distributed
from jaxft.core.errors import UserError
from jaxft.training.hooks import End, Evaluation, Hook, Step

FILE = "metrics.jsonl"


class Journal(Hook):
    """The rows of a run's metrics.jsonl, of which those after `start_step` are written again."""

    def __init__(self, directory: Path, start_step: int) -> None:
        self._path = directory / FILE
        self._file: Any = None
        if distributed.is_main_process():
            rewind(self._path, start_step)
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (open as long as the run)

    def on_step(self, step: Step) -> None:
        """A row for a step that is logged."""
        if step.speed is not None:
            self.write(step.row())

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """A row."""
        self.write(evaluation.row())

    def on_end(self, end: End) -> None:
        """A row with the results, if there are any."""
        if end.results:
            self.write(end.row())

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; it has at least `step`."""
        if self._file is None:
            return
        rounded = {k: float(f"{v:.7g}") if isinstance(v, float) else v for k, v in row.items()}
        try:
            self._file.write(json.dumps(rounded) + "\n")
            self._file.flush()
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Flush and close."""
        if self._file is not None:
            self._file.close()


def rewind(path: Path, step: int) -> None:
    """Drop the rows after `step` and the final one: a resumed run writes them again. Lines that are no row go too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
            if row.get("step", 0) <= step and not row.get("final"):
                kept.append(line + b"\n")
        except (ValueError, TypeError, AttributeError, RecursionError):  # no JSON, no object, no number
            continue
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(b"".join(kept))
    os.replace(temporary, path)
