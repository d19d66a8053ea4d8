"""TensorBoard's event files, in the format of TFRecord. They are written in the thread of the run.

tensorboardX's SummaryWriter writes in a thread of its own. If the disk fills, this thread ends, and after ten more numbers
the run would wait for it for ever.
"""

import os
import socket
import struct
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from jaxft.core import distributed
from jaxft.core.errors import UserError
from jaxft.training.callbacks import Callback, Checkpoint
from jaxft.training.patient_file import PatientFile
from jaxft.training.running import RunningRun
from jaxft.training.tracker import numbers

FOLDER = "tensorboard"


class TensorBoard(Callback):
    """Event files in DIRECTORY/tensorboard with a scalar for every number; those after `start_step` are written again."""

    def __init__(self, directory: Path, start_step: int) -> None:
        self._folder, self._start_step = directory / FOLDER, start_step
        self._file: PatientFile | None = None  # in the main process

    def on_start(self, run: RunningRun) -> None:
        """Begin a file; TensorBoard drops what earlier ones have of the steps that the run does again."""
        if not distributed.is_main_process():
            return
        path = self._folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = PatientFile(path, run.say)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
        self._write(step=0, file_version="brain.Event:2")
        log = _messages("event").SessionLog
        self._write(step=self._start_step + 1, session_log=log(status=log.START))

    def on_log(self, row: Mapping[str, Any]) -> None:
        """Add the scalars."""
        if self._file is not None:
            from tensorboardX.summary import scalar

            values = [value for name, x in numbers(row).items() for value in scalar(name, x).value]
            self._write(step=row["step"], summary=_messages("summary").Summary(value=values))

    def on_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write to the disk: a run that is resumed at the checkpoint does not write the rows before it again."""
        if self._file is not None:
            self._file.sync()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, **fields: Any) -> None:
        from tensorboardX.record_writer import masked_crc32c

        assert self._file is not None
        event = _messages("event").Event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(event))
        sums = (struct.pack("<I", masked_crc32c(x)) for x in (length, event))
        self._file.write(length + next(sums) + event + next(sums))


def _messages(name: str) -> Any:
    """A module of protobuf messages, which are made when it is imported."""
    return import_module(f"tensorboardX.proto.{name}_pb2")
