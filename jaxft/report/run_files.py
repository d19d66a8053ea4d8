"""What a run directory holds for a report. Only files are read: neither JAX nor the code that a config names is needed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from jaxft.config import cli
from jaxft.core.errors import UserError

CONFIG, METRICS, FIGURES, TIMES = "config.yaml", "metrics.jsonl", "figures.json", "times.json"
PREDICTIONS = "predictions"
DISTILL = "distill/"
MOST_ROWS = 50_000  # of predictions, which a report reads in some seconds


@dataclass(frozen=True)
class RunFiles:
    """A run as its files tell it.

    Attributes:
      name: of the directory.
      directory: where it is, as it was given.
      config: the options by their dotted names.
      rows: the rows of metrics.jsonl.
      figures: figures.json (`preflight.figures`); empty if there is none.
      times: times.json (`training.times`); empty if there is none.
      task: the name of one of several tasks, whose predictions are meant; empty for the run as a whole.
    """

    name: str
    directory: Path
    config: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    figures: Mapping[str, Any] = field(default_factory=dict)
    times: Mapping[str, Any] = field(default_factory=dict)
    task: str = ""

    @property
    def tasks(self) -> list["RunFiles"]:
        """The run as each of its several tasks sees it: with the options and the predictions of the task."""
        found = []
        for own in self.config.get("tasks") or []:
            options = cli.flatten({name: own.get(name) or {} for name in ("task", "data")})
            found.append(replace(self, task=own["name"], config={**self.config, **options, "tasks": []}))
        return found

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        """The rows of optimizer steps."""
        return [row for row in self.rows if "loss" in row and "learning_rate" in row]

    @property
    def evaluations(self) -> list[Mapping[str, Any]]:
        """The rows of evaluations during training."""
        return [row for row in self.rows if not row.get("final") and any(name.startswith("eval/") for name in row)]

    @property
    def final(self) -> Mapping[str, Any]:
        """The row of the end; empty before."""
        return next((row for row in reversed(self.rows) if row.get("final")), {})

    @property
    def results(self) -> dict[str, float | None]:
        """The scores of the selected parameters by name, `eval/f1`; before the end, those of the latest evaluation."""
        row = self.final or (self.evaluations[-1] if self.evaluations else {})
        scores = {name: value for name, value in row.items() if "/" in name and (value is None or is_number(value))}
        return {name: value for name, value in scores.items() if not name.startswith(DISTILL)}

    @property
    def distillation(self) -> dict[str, float]:
        """Numbers of the end of a distillation by name, `teacher_parameters`; empty without one (see `training`)."""
        row = self.final
        return {name.removeprefix(DISTILL): x for name, x in row.items() if name.startswith(DISTILL) and is_number(x)}

    @property
    def phases(self) -> dict[str, float]:
        """The seconds of each phase, until the end or until now; empty if they are not known."""
        found = self.final.get("time") or self.times.get("phases")
        return {name: x for name, x in found.items() if is_number(x)} if isinstance(found, dict) else {}

    @property
    def goodput(self) -> float | None:
        """The share of the time that trained steps that count, until the end or until now; None if it is not known."""
        if self.final:
            found = self.final.get("goodput")
            return found if is_number(found) else None
        counted, total = self.times.get("counted"), sum(self.phases.values())
        return counted / total if counted is not None and is_number(counted) and total else None

    def predictions(self, split: str) -> list[dict[str, Any]]:
        """The first MOST_ROWS rows of predictions/SPLIT.jsonl, or predictions/TASK/SPLIT.jsonl; none without the file."""
        path = self.directory / PREDICTIONS / self.task / f"{split}.jsonl"
        return list(islice(json_lines(path), MOST_ROWS)) if path.is_file() else []


def read_run(path: str | Path) -> RunFiles:
    """Read a run directory.

    Raises:
      UserError: if it is none, or a file of it is damaged.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise UserError(f"{path}: no such directory; give the output_dir of a run")
    if not (directory / CONFIG).is_file():
        inside = sorted(x.parent.name for x in directory.glob(f"*/{CONFIG}"))
        advice = f"; it holds the runs {', '.join(inside[:5])}" if inside else ""
        raise UserError(f"{path}: not a run directory (no {CONFIG}){advice}")
    values = cli.flatten(cli.read_yaml(directory / CONFIG))
    metrics = directory / METRICS
    rows = [row for row in json_lines(metrics) if is_number(row.get("step"))] if metrics.is_file() else []
    figures, times = (_read_object(directory / name) for name in (FIGURES, TIMES))
    return RunFiles(directory.resolve().name, directory, values, rows, figures, times)


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of json lines, of which the last may be incomplete while it is written.

    Raises:
      UserError: for any other line that is not an object, or if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError("it is no object")
                except (ValueError, RecursionError) as error:
                    if not line.endswith(b"\n"):
                        return
                    raise UserError(f"{path}: line {number} is damaged: {str(error)[:200]}") from error
                yield row
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def is_number(value: Any) -> bool:
    """Whether a value of a json file is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: is damaged: {str(error)[:200]}") from error
    return found
