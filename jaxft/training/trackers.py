"""The trackers that `log.trackers` names: TensorBoard's files, Weights & Biases, MLflow and Trackio."""

import os
import re
import secrets
import sys
import time
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from jaxft.config import LogConfig
from jaxft.core.errors import UserError
from jaxft.training.callbacks import Callback
from jaxft.training.tensorboard import TensorBoard
from jaxft.training.tracker import Numbers, Status, Tracker


class Wandb(Tracker):
    """Weights & Biases; WANDB_MODE=offline writes into DIRECTORY/wandb only.

    The steps are a column of their own, since wandb's own count drops rows that are not newer than all others.
    """

    name = "wandb"

    def open(self, directory: Path, name: str, known: str | None, config: dict[str, Any]) -> str:
        """Begin or resume a run under an id that is chosen here, so that it is known offline, too."""
        self._run = import_module("wandb").init(
            project=self.log.project,
            name=name,
            id=known or secrets.token_hex(4),
            resume="allow",
            config=None if known else config,
            dir=os.environ.get("WANDB_DIR") or str(directory),
            reinit="create_new",  # not a run that the user's own code has open
        )
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")
        return self._run.id

    def send(self, values: Numbers, step: int) -> None:
        """Log a row."""
        self._run.log({**values, "step": step})

    def send_final(self, values: Numbers, step: int) -> None:
        """Put the scores into the summary."""
        self._run.summary.update(values)

    def finish(self, status: Status) -> None:
        """Set the summary's `status`, and the exit code, which makes a run that has not finished a failed one."""
        self._run.summary["status"] = status
        self._run.finish(exit_code=int(status != "finished"))


class MLflow(Tracker):
    """MLflow, at MLFLOW_TRACKING_URI or in the file mlflow.db of the working directory."""

    name = "mlflow"
    _STATES: ClassVar = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
    _MOST, _LONGEST = 100, 6000  # options or numbers of a request, characters of a value

    def open(self, directory: Path, name: str, known: str | None, config: dict[str, Any]) -> str:
        """Create a run in the experiment `log.project`, or set a known one to running."""
        self._client = import_module("mlflow").MlflowClient()
        if known is not None:
            self._client.update_run(known, status="RUNNING")
            self._id = known
            return known
        experiment = self._client.get_experiment_by_name(self.log.project)
        where = experiment.experiment_id if experiment else self._new_experiment()
        self._id = self._client.create_run(where, run_name=name).info.run_id
        parameter = import_module("mlflow.entities").Param
        options = [parameter(option, str(value)[: self._LONGEST]) for option, value in config.items()]
        for i in range(0, len(options), self._MOST):
            self._client.log_batch(self._id, params=options[i : i + self._MOST])
        return self._id

    def _new_experiment(self) -> str:
        try:
            return self._client.create_experiment(self.log.project)
        except Exception:
            if found := self._client.get_experiment_by_name(self.log.project):  # of a run that began at the same time
                return found.experiment_id
            raise

    def send(self, values: Numbers, step: int) -> None:
        """Log a row, with names of the characters that MLflow allows."""
        metric, now = import_module("mlflow.entities").Metric, int(time.time() * 1000)
        metrics = [metric(re.sub(r"[^\w./ :-]", "_", name), value, now, step) for name, value in values.items()]
        for i in range(0, len(metrics), self._MOST):
            self._client.log_batch(self._id, metrics=metrics[i : i + self._MOST])

    def finish(self, status: Status) -> None:
        """Set the state of the run."""
        self._client.set_terminated(self._id, self._STATES[status])


class Trackio(Tracker):
    """Trackio, in its local store (TRACKIO_DIR) or at TRACKIO_SPACE_ID.

    It resumes runs by their names, so a part of the run's id makes them unique. It has no states: `status` is a last value.
    """

    name = "trackio"
    _step = 0  # of the last row

    def open(self, directory: Path, name: str, known: str | None, config: dict[str, Any]) -> str:
        """Begin or resume the run of a unique name; its config is replaced each time."""
        with redirect_stdout(sys.stderr):
            unique = known or f"{name}-{secrets.token_hex(3)}"
            self._run = import_module("trackio").init(self.log.project, name=unique, resume="allow", config=config)
        return unique

    def send(self, values: Numbers, step: int) -> None:
        """Log a row."""
        self._run.log(values, step=step)
        self._step = step

    def finish(self, status: Status) -> None:
        """Log the status, and close the run."""
        with redirect_stdout(sys.stderr):
            self._run.log({"status": status}, step=self._step)
            import_module("trackio").finish()


_PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}
_SERVICES: tuple[type[Tracker], ...] = (Wandb, MLflow, Trackio)


def installed() -> list[str]:
    """The trackers whose packages are installed."""
    return [name for name, package in _PACKAGES.items() if find_spec(package)]


def check_installed(log: LogConfig) -> None:
    """Raise a UserError if the package of a tracker is not installed."""
    there = installed() if log.trackers else []
    for name in log.trackers:
        if name not in there:
            raise UserError(f"log.trackers names {name}, whose package is not installed: pip install 'jaxft[{name}]'")


def make_trackers(log: LogConfig, directory: Path, start_step: int) -> list[Callback]:
    """The callbacks of `log.trackers` for a run that begins, or is resumed, at a step."""
    services = [tracker(log) for tracker in _SERVICES if tracker.name in log.trackers]
    return [TensorBoard(directory, start_step), *services] if "tensorboard" in log.trackers else [*services]
