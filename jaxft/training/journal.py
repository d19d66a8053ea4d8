"""The rows of a run, one for each logged step, each evaluation and the end, in metrics.jsonl and in TensorBoard's files."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxft.core import distributed
from jaxft.core.errors import UserError
from jaxft.training.callbacks import Callback

FILE = "metrics.jsonl"


class RowWriter(Callback, ABC):
    """A callback that writes the rows of a run, in the main process only."""

    _file: Any = None  # open as long as the run, in the main process

    def on_log(self, row: Mapping[str, Any]) -> None:
        """Write a row."""
        self.write(row)

    @abstractmethod
    def write(self, row: Mapping[str, Any]) -> None:
        """Write a row, which has at least `step`."""

    def close(self) -> None:
        """Flush and close."""
        if self._file is not None:
            self._file.close()


class Journal(RowWriter):
    """metrics.jsonl; its rows after `start_step` are written again."""

    def __init__(self, directory: Path, start_step: int) -> None:
        self._path = directory / FILE
        if distributed.is_main_process():
            rewind(self._path, start_step)
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a line."""
        if self._file is None:
            return
        rounded = {k: float(f"{v:.7g}") if isinstance(v, float) else v for k, v in row.items()}
        try:
            self._file.write(json.dumps(rounded) + "\n")
            self._file.flush()
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written: {error.strerror}") from error


class TensorBoard(RowWriter):
    """Event files in DIRECTORY/tensorboard with a scalar for every float; those after `start_step` are written again."""

    def __init__(self, directory: Path, start_step: int) -> None:
        if distributed.is_main_process():
            import tensorboardX

            self._file = tensorboardX.SummaryWriter(str(directory / "tensorboard"), purge_step=start_step + 1)

    def write(self, row: Mapping[str, Any]) -> None:
        """Add the scalars."""
        for name, value in row.items():
            if self._file is not None and isinstance(value, float):
                self._file.add_scalar(name, value, row["step"])


def rewind(path: Path, step: int) -> None:
    """Remove the rows after `step` and the final one, which a resumed run writes again, and lines that are not rows."""
    if not path.exists():
        return
    rows = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
            if row.get("step", 0) <= step and not row.get("final"):
                rows.append(line + b"\n")
        except (ValueError, TypeError, AttributeError, RecursionError):  # no JSON, no object, no number
            continue
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(b"".join(rows))
    os.replace(temporary, path)
