"""Predictions for labelled rows, with the columns of their file and the right answers, and the files that hold them."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxft.config import Config
from jaxft.config.of_tasks import of_tasks
from jaxft.core.output import writing
from jaxft.data.batching.collect import Summary
from jaxft.evaluation.input_columns import input_columns, merged
from jaxft.tasks.several import SeveralTasks
from jaxft.tasks.task import Split, Task

FOLDER = "predictions"
MOST_VALUES = 50_000_000  # examples times labels, whose probabilities are kept in memory until they are written
MOST_LABELS, SHOWN = 100, 20  # with more labels, a row has the probabilities of the best ones and of the gold one
_ANSWERS = ("label", "labels", "tags", "answer", "choice")


@dataclass(frozen=True)
class Part:
    """What one of several tasks, or the only one (whose name is empty), has of a split that was evaluated."""

    name: str
    task: Task
    summary: Summary
    data: Split
    config: Config


def parts_of(task: Task, summary: Summary, data: Split, config: Config) -> Iterator[Part]:
    """The part of each task of a run, whose config is `config`, that has right answers."""
    if not isinstance(task, SeveralTasks):
        yield Part("", task, summary, data, config)
        return
    configs = of_tasks(config)
    for name, own, collected, split in task.parts(summary, data):
        if own.has_gold:
            yield Part(name, own, collected, split, configs[name])


def are_possible(task: Task, data: Split) -> bool:
    """Whether predictions of a split can be kept beside its scores: there are right answers, and not too many numbers."""
    tasks = task.tasks.values() if isinstance(task, SeveralTasks) else [task]
    with_gold = [x for x in tasks if x.has_gold]
    return bool(with_gold) and len(data.examples) * sum(len(x.labels or ()) for x in with_gold) <= MOST_VALUES


def labelled_predictions(task: Task, summary: Summary, data: Split, config: Config, split: str) -> Iterator[dict[str, Any]]:
    """Yield a mapping per row: its number in the file, its columns, `gold`, `prediction`, and what belongs to it.

    `probabilities` are by label, or in the order of choices; other fields are those of `Task.decode`. A column of the file
    with the name of such a field is called `input_...`.

    Args:
      task, data: the task and the split that `summary` is of (see `evaluator.make_evaluator`, with predictions).
      config, split: where the rows were read from.
    """
    gold = task.gold(data)
    columns = input_columns(type(task), data.rows, config, split)
    for (number, own), right, decoded in zip(columns, gold or (), task.decode(summary, data), strict=True):
        yield merged(own, _fields(right, decoded), number)


def _fields(gold: Any, decoded: Mapping[str, Any]) -> dict[str, Any]:
    """`gold`, `prediction` and `probabilities`, then the other fields of a decoded prediction."""
    name = next((x for x in _ANSWERS if x in decoded), "scores")
    fields = {"gold": gold, "prediction": decoded.get(name, decoded)}
    if name != "scores" and "scores" in decoded:
        fields["probabilities"] = _best(decoded["scores"], gold)
    return fields | {key: x for key, x in decoded.items() if key not in (name, "scores")}


def _best(scores: Any, gold: Any) -> Any:
    """The probabilities, of many labels only the highest and those of the gold ones, to 6 digits."""
    if not isinstance(scores, Mapping):
        return [_rounded(x) for x in scores]
    if len(scores) > MOST_LABELS:
        right = gold if isinstance(gold, list) else [gold]
        names = sorted(scores, key=lambda name: -scores[name])[:SHOWN]
        scores = {name: scores[name] for name in dict.fromkeys([*names, *right])}
    return {name: _rounded(x) for name, x in scores.items()}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def write_rows(output: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as csv if the name says so, otherwise as json lines.

    In csv, lists and mappings are json texts, and the columns are those of the first row.
    """
    with writing(output) as file:
        if not output.endswith(".csv"):
            lines = (f"{json.dumps(row, ensure_ascii=False, default=str)}\n" for row in rows)
            file.writelines(line.encode("utf-8", "replace") for line in lines)
            return
        text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="", write_through=True)
        table = None
        for row in rows:
            if table is None:
                table = csv.DictWriter(text, list(row), restval="", extrasaction="ignore")
                table.writeheader()
            table.writerow({name: _cell(x) for name, x in row.items()})
        text.detach()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else value


def path_of(directory: Path, split: str, task: str = "") -> Path:
    """The file of a run's predictions of a split: of one of several tasks, or of the only one."""
    return directory / FOLDER / task / f"{split}.jsonl"
