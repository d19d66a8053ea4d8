"""`jaxft.Trainer`: a run from Python, with data and models in files or in memory; `jaxft train` does the same."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxft import train as training
from jaxft.config import Config
from jaxft.core import backend
from jaxft.core.errors import UserError, naming
from jaxft.core.paths import check_url, is_url, plain
from jaxft.core.remote import exists
from jaxft.core.upload import written_directory
from jaxft.data.reading.memory import as_table, write
from jaxft.evaluate import evaluate
from jaxft.evaluation import inference
from jaxft.report.run_files import METRICS, json_lines
from jaxft.run import rundir
from jaxft.run.from_python import config_of
from jaxft.run.trained_models import model_directory, model_of_task
from jaxft.training.callbacks import Callback
from jaxft.training.remote_run import local_directory

SPLITS = ("validation", "test")
ROWS = "rows.parquet"  # the file of rows in memory


class Trainer:
    """A run: its config, and its directory `output_dir`, which `jaxft train` with the same options would continue.

    Nothing is printed to standard output; progress goes to standard error.

    Attributes:
      config: the checked config.
    """

    def __init__(self, config: str | os.PathLike[str] | Config | None = None, **sections: Any) -> None:
        """Check the options; nothing is trained or written into the run's directory yet.

        Args:
          config: the path of a yaml file, a `Config`, or None for the defaults.
          sections: options by section, which replace those of `config`, such as `train={"epochs": 1}`, `seed=1`. Data
            (`data={"train": rows}`) may be files or rows in memory: a list of dicts, a dict of lists, a pandas DataFrame, a
            `datasets.Dataset` or a pyarrow Table; also those of each of several `tasks`. A model (`model={"path": ...}`,
            `distill={"teacher": ...}`) may be what `jaxft.load` returns.

        Raises:
          UserError: for an unknown option, a value out of range, or rows that are not a table.
        """
        self.config = config_of(config, sections)

    def __repr__(self) -> str:
        names = ", ".join(x.name for x in self.config.tasks) or self.config.task.name
        return f"Trainer(task={names!r}, output_dir={self.config.output_dir!r})"

    @property
    def output_dir(self) -> Path:
        """The run's directory; of a run at a URL, that of its local copy."""
        given = self.config.output_dir
        return local_directory(given) if is_url(given) else Path(plain(given))

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl so far: one for each logged step, each evaluation, and the end."""
        path = self.output_dir / METRICS
        return list(json_lines(path)) if path.is_file() else []

    def train(self, callbacks: Sequence[Callback] = ()) -> dict[str, Any]:
        """Train, or resume where the run was interrupted, and write `output_dir`/model.

        Args:
          callbacks: objects whose methods are called at the steps, evaluations and checkpoints of the run.

        Returns:
          The scores of the selected parameters, `eval/...` and `test/...`.

        Raises:
          UserError: for data or options that do not fit together, or if a callback fails.
          Stopped, KeyboardInterrupt: after SIGTERM, SIGHUP or Ctrl-C; the current step is saved.
        """
        return training.train(self.config, callbacks=callbacks)

    def evaluate(self, data: Any = "validation", *, task: str | None = None) -> dict[str, Any]:
        """Scores of the trained model.

        Args:
          data: "validation" or "test", for the run's own data; a file; or labelled rows in memory, as in the constructor.
          task: its name, if the run has several.

        Returns:
          The task's metrics and `loss` by name.

        Raises:
          UserError: if the run has not finished, or the data cannot be read.
        """
        if isinstance(data, str) and data in SPLITS:
            config = self._trained_config(task)
            held = data == "validation" and config.data.validation_share and config.data.train
            if not getattr(config.data, data) and not held:
                raise UserError(f"the run has no {data} data: give data.{data}, or rows to evaluate on")
            return evaluate(self._path(task), config, data)[0]
        with self._named() as folder:
            return evaluate(self._path(task), self._config_for(data, folder, task), "test")[0]

    def predict(self, data: Any, *, task: str | None = None) -> list[dict[str, Any]]:
        """Predictions of the trained model.

        Args:
          data: a file, or rows in memory, as in the constructor, with the columns of the run; labels are not read.
          task: its name, if the run has several.

        Returns:
          One prediction for each row, in order, as `jaxft predict` writes it (docs/tasks.md); None in place of what an
          empty text lacks.

        Raises:
          UserError: if the run has not finished, or the data cannot be read.
        """
        with self._named() as folder:
            path, config = self._path(task), self._config_for(data, folder, task)
            config = replace(config, data=replace(config.data, empty_texts="null", max_eval_examples=None))
            config = inference.config_with_task(path, config)
            rows = inference.read_split(config, "test", labelled=False)
            opened = inference.load_for_inference(path, config)
            return list(inference.predict(opened, rows, "test"))

    def save(self, directory: str | os.PathLike[str], *, task: str | None = None) -> None:
        """Copy the trained model, a Hugging Face directory, to a new or empty directory, or to a URL; of several tasks, that
        of `task`.

        Raises:
          UserError: if the run has not finished, or the directory holds files.
        """
        check_url("the directory to save to", given := str(directory))
        self._finished()
        source = model_directory(self._path(task))
        if is_url(given) and exists(given):
            raise UserError(f"{given}: is not empty; give a new or empty directory")
        with written_directory(given) as target:
            self._copy(source, target)

    @staticmethod
    def _copy(source: str, target: Path) -> None:
        if target.is_file() or (target.is_dir() and any(target.iterdir())):
            raise UserError(f"{target}: is {'a file' if target.is_file() else 'not empty'}; give a new or empty directory")
        try:
            shutil.copytree(source, target, dirs_exist_ok=True)
        except OSError as error:
            raise UserError(f"{target}: cannot be written: {error}") from error

    def _finished(self) -> Path:
        """The run's directory. Raises a UserError if nothing has been trained there."""
        if not rundir.is_run(self.output_dir):
            raise UserError(f"{self.output_dir}: nothing is trained yet: call train() first")
        return self.output_dir

    def _path(self, task: str | None) -> str:
        """The run, or the model of one of its several tasks."""
        return model_of_task(str(self.output_dir), task)

    def _trained_config(self, task: str | None) -> Config:
        """The config for the trained model, as `jaxft evaluate` has it; starts the backend."""
        config = rundir.config_of(str(self._finished()), [], task=task)
        model_directory(self._path(task))  # an unfinished run is an error before all others
        backend.start(precision=config.runtime.precision, compile_cache=config.runtime.compile_cache, distributed="off")
        return config

    @contextmanager
    def _named(self) -> Iterator[Path]:
        """A folder for rows in memory; messages name neither its file nor the option that names it."""
        with tempfile.TemporaryDirectory() as name, naming("the data", instead_of="data.test"):
            folder = Path(name)
            with naming("the data", instead_of=str(folder / ROWS)):
                yield folder

    def _config_for(self, data: Any, folder: Path, task: str | None) -> Config:
        """The config for other data than the run's, as its test data; rows in memory are written into a folder."""
        config = self._trained_config(task)
        if isinstance(data, (str, Path)):
            path = str(data)
        else:
            path = str(folder / ROWS)
            write(as_table(data, "the data"), Path(path))
        return replace(config, data=replace(config.data, dataset=None, test=path))
