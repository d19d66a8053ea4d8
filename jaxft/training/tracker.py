"""What services that track experiments have in common: a thread sends the rows, and a resumed run continues its curves."""

import json
import queue
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from jaxft.config import LogConfig, cli
from jaxft.core import distributed
from jaxft.core.errors import one_line
from jaxft.core.output import writing
from jaxft.core.signals import Stopped
from jaxft.report.run_files import METRICS, json_lines
from jaxft.training.callbacks import Callback
from jaxft.training.running import RunningRun

FOLDER = "trackers"
PATIENCE = 60.0  # seconds that the end of a run waits for rows that are not sent yet
Status = Literal["finished", "failed", "interrupted"]
Numbers = dict[str, float]


def numbers(row: Mapping[str, Any]) -> Numbers:
    """The numbers of a row apart from its step; those of the end have names such as `final/eval/accuracy`."""
    prefix = "final/" if row.get("final") else ""
    known = {name: x for name, x in row.items() if isinstance(x, int | float) and not isinstance(x, bool)}
    return {f"{prefix}{name}": x for name, x in known.items() if name != "step"}


class Tracker(Callback, ABC):
    """Sends the config, the rows and the status of a run to a service, from the main process.

    Training never waits for the service, and goes on without it if it fails: a line says so, and the service gets nothing
    more than the status. OUTPUT_DIR/trackers/NAME.json records the service's id of the run and which rows it has got. So a
    resumed run continues the same one and does not send again the steps that it repeats; rows from before a run was tracked
    are sent first.
    """

    name: ClassVar[str]  # in `log.trackers`

    def __init__(self, log: LogConfig) -> None:
        self.log = log
        self._thread: threading.Thread | None = None  # in the main process, if the service could be opened

    @abstractmethod
    def open(self, directory: Path, name: str, known: str | None, config: dict[str, Any]) -> str:
        """Begin a run, or continue the one whose id is `known`, and return its id.

        Args:
          directory: of the run.
          name: of the run, as people see it.
          known: the id that the service gave it before; None for a new one.
          config: the options by their dotted names.
        """

    @abstractmethod
    def send(self, values: Numbers, step: int) -> None:
        """Send the numbers of a row."""

    def send_final(self, values: Numbers, step: int) -> None:
        """Send the scores of the selected parameters, `final/eval/...` and `final/test/...`."""
        self.send(values, step)

    @abstractmethod
    def finish(self, status: Status) -> None:
        """Send how the run ended, and close it."""

    def on_start(self, run: RunningRun) -> None:
        """Open the service, and send the rows that it has not got."""
        if not distributed.is_main_process():
            return
        self._outer = sys.exception()  # of code that starts a run while it handles an exception
        self._path = run.directory / FOLDER / f"{self.name}.json"
        self._failed = False
        self._id, self._sent = _read(self._path)
        name = self.log.run_name or run.directory.resolve().name
        config = cli.flatten(cli.as_dict(run.config))
        try:
            self._id = self.open(run.directory, name, self._id, config)
            self._record()
            before = list(json_lines(run.directory / METRICS))
        except Exception as error:  # noqa: BLE001
            self._fail(error)
            return
        self._rows: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
        self._thread.start()
        for row in before:
            self.on_log(row)

    def on_log(self, row: Mapping[str, Any]) -> None:
        """Give a row to the thread."""
        if self._thread is not None:
            self._rows.put(row)

    def close(self) -> None:
        """Wait for the rows, and finish the run as what ends it says: an exception, a signal or its end."""
        if self._thread is None:
            return
        self._rows.put(None)
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self._fail(TimeoutError(f"the last rows were not sent within {PATIENCE:.0f} s"))
            return
        self._thread = None
        error = sys.exception()
        stopped = isinstance(error, Stopped | KeyboardInterrupt)
        try:
            self.finish("finished" if error is self._outer else "interrupted" if stopped else "failed")
        except Exception as fault:  # noqa: BLE001
            self._fail(fault)

    def _work(self) -> None:
        while (row := self._rows.get()) is not None:
            if self._failed or not row.keys() - {"step"}:
                continue
            try:
                self._send(row)
            except Exception as error:  # noqa: BLE001
                self._fail(error)

    def _send(self, row: Mapping[str, Any]) -> None:
        """Send a row unless the service has got it: rows of a kind come in the order of their steps."""
        kind = "final" if row.get("final") else "evaluation" if any(x.startswith("eval/") for x in row) else "step"
        if row["step"] <= self._sent.get(kind, -1):
            return
        (self.send_final if kind == "final" else self.send)(numbers(row), row["step"])
        self._sent[kind] = row["step"]
        self._record()

    def _record(self) -> None:
        self._path.parent.mkdir(exist_ok=True)
        with writing(str(self._path)) as file:
            file.write(json.dumps({"id": self._id, "sent": self._sent}).encode())

    def _fail(self, error: Exception) -> None:
        """Say why the service gets no more rows, once."""
        if not self._failed:
            self.run.say(f"log.trackers {self.name}: gets no more of this run: {type(error).__name__}: {one_line(error)}")
        self._failed = True


def _read(path: Path) -> tuple[str | None, dict[str, int]]:
    """(the id of the run, the last step that was sent by kind of row); (None, {}) without a record that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known, sent = found["id"], {str(kind): int(step) for kind, step in found["sent"].items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return None, {}
    return (known, sent) if isinstance(known, str) else (None, {})
