"""The rows of a run, one for each logged step, each evaluation and the end, in metrics.jsonl."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxft.core import distributed
from jaxft.core.errors import UserError
from jaxft.training.callbacks import Callback
from jaxft.training.patient_file import PatientFile

FILE = "metrics.jsonl"


class Journal(Callback):
    """metrics.jsonl; its rows after `start_step` are written again, with `evaluates` also the evaluation of that step."""

    _file: PatientFile | None = None  # open as long as the run, in the main process

    def __init__(self, directory: Path, start_step: int, say: Callable[[str], None], *, evaluates: bool = False) -> None:
        path = directory / FILE
        if distributed.is_main_process():
            try:
                rewind(path, start_step, evaluates=evaluates)
                self._file = PatientFile(path, say)
            except OSError as error:
                raise UserError(f"{path}: cannot be written: {error.strerror}") from error

    def on_log(self, row: Mapping[str, Any]) -> None:
        """Append a line."""
        if self._file is not None:
            rounded = {k: float(f"{v:.7g}") if isinstance(v, float) else v for k, v in row.items()}
            self._file.write(json.dumps(rounded).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def rewind(path: Path, step: int, *, evaluates: bool = False) -> None:
    """Remove what a resumed run writes again, and lines that are not rows.

    These are the rows after `step`, the final one, and with `evaluates` the evaluation of that step.
    """
    if not path.exists():
        return
    rows = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
            again = row.get("final") or (evaluates and row.get("step") == step and any(x.startswith("eval/") for x in row))
            if row.get("step", 0) <= step and not again:
                rows.append(line + b"\n")
        except (ValueError, TypeError, AttributeError, RecursionError):  # no JSON, no object, no number
            continue
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(b"".join(rows))
    os.replace(temporary, path)
