"""The data of a run: rows are read, limited, set aside for validation, and tokenised into examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.config import Config
from jaxft.config.data import SPLITS
from jaxft.config.of_tasks import every_task
from jaxft.core.errors import UserError
from jaxft.core.phases import READING, TOKENISING, phase
from jaxft.core.ragged import offsets_of
from jaxft.core.random_streams import OfSeed, host_generator
from jaxft.data.cleaning.cleaner import check_rules, counted
from jaxft.data.formats.sentences import say_if
from jaxft.data.reading.row_numbers import row_numbers, select_rows
from jaxft.run import input_files, record, rundir
from jaxft.run.example_weights import weighted
from jaxft.run.first_rows import missing_labels
from jaxft.run.row_removal import without_dropped, without_unknown
from jaxft.run.run_tokenizer import Vocabulary, open_vocabulary
from jaxft.run.teacher_labels import check_unlabelled, is_labelled, task_of_teacher
from jaxft.tasks import task_class, task_options
from jaxft.tasks.limits import first_examples, first_rows
from jaxft.tasks.task import Split, Task


@dataclass(frozen=True)
class RunData:
    """The data of a run: the task with its labels, its splits, its tokenizer, and notes for the log."""

    task: Task
    splits: Mapping[str, Split]
    vocabulary: Vocabulary
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ReadRows:
    """The rows of every split of a run before they are tokenised, the file of each, and the rest as in `RunData`."""

    task: Task
    rows: Mapping[str, Any]
    origins: Mapping[str, str]
    vocabulary: Vocabulary
    notes: tuple[str, ...]


def read_data(config: Config, directory: Path, hf_config: Mapping[str, Any]) -> RunData:
    """Read and tokenise every split of a run; see `read_rows`."""
    with phase(READING):
        read = read_rows(config, directory, hf_config)
    task, vocabulary = read.task, read.vocabulary
    tokens = vocabulary.tokenizer, vocabulary.directory
    with phase(TOKENISING):
        splits = {
            split: task.encode(rows, *tokens, config, read.origins[split], labelled=is_labelled(config, split))
            for split, rows in read.rows.items()
        }
        if config.distill.unlabelled:
            splits["train"] = task.without_labels(splits["train"])
        splits["train"] = weighted(config, task, splits["train"])
    return RunData(task, {s: first_examples(type(task), x, config, s) for s, x in splits.items()}, vocabulary, read.notes)


def read_rows(config: Config, directory: Path, hf_config: Mapping[str, Any]) -> ReadRows:
    """Read every split of a run whose model is in `directory`, with its config.json.

    A resumed run keeps the labels that it recorded.

    Raises:
      UserError: for what is missing or malformed.
    """
    kind, data = task_class(config), config.data
    if config.distill.unlabelled:
        check_unlabelled(config, kind)
    origins = {s: str(where) for s in SPLITS if (where := getattr(data, s))}
    with counted() as changed:
        whole = {split: kind.read(config, split, labelled=is_labelled(config, split)) for split in origins}
    check_rules(data.clean.rules, changed, ", ".join(origins.values()))
    rows = {s: first_rows(kind, x, config, s, labelled=is_labelled(config, s)) for s, x in whole.items()}
    if config.distill.unlabelled:
        task = task_of_teacher(config, kind)
    else:
        say_if(line := missing_labels(kind, whole["train"], rows["train"], config, origins["train"]), line)
        task = _learned(config, kind, hf_config, rows["train"], origins["train"])
    notes = []
    for split, origin in origins.items():
        rows[split], note = drop_unknown_labels(task, rows[split], config, origin)
        notes += note
    if data.validation_share:
        held = held_out(task, rows["train"], config, origins["train"])
        whole["validation"] = select_rows(rows["train"], held)
        rows |= {
            "validation": first_rows(kind, whole["validation"], config, "validation"),
            "train": select_rows(rows["train"], np.setdiff1d(np.arange(len(rows["train"])), held, assume_unique=True)),
        }
        origins["validation"] = origins["train"]
    rows["train"], left_out = without_dropped(kind, {**whole, "train": rows["train"]}, config, origins)
    notes += left_out
    recorded = rundir.recorded_tokenizer(config)
    vocabulary = open_vocabulary(config.vocabulary, directory, recorded, lambda: kind.texts(rows["train"], config))
    tokenizer, directory = vocabulary.tokenizer, vocabulary.directory
    rows["train"], left_out = without_unknown(kind, rows["train"], tokenizer, config, origins["train"])
    notes += left_out
    return ReadRows(task.with_tokenizer(tokenizer, directory), rows, origins, vocabulary, tuple(notes))


def _learned(config: Config, kind: type[Task], hf_config: Mapping[str, Any], rows: Any, origin: str) -> Task:
    """The task with the labels of the training rows, or of the record of a run that has begun."""
    known = record.recorded(config)
    recorded = known.labels_of() if known else None
    labels = list(recorded) if recorded and "labels" in task_options(config.task) else config.task.labels
    return kind.learn(replace(config, task=replace(config.task, labels=labels)), hf_config, rows, origin)


def drop_unknown_labels(task: Task, rows: Any, config: Config, origin: str) -> tuple[Any, list[str]]:
    """The rows after `data.unknown_labels` was applied, and a note that counts the labels left out."""
    if config.data.unknown_labels == "error":
        return rows, []
    rows, count = task.drop_unknown_labels(rows, config, origin)
    return rows, [f"{origin}: {count:,} unknown labels are left out (data.unknown_labels drop)"] if count else []


def held_out(task: Task, rows: Any, config: Config, origin: str) -> np.ndarray:
    """Indices, ascending, int64 [held], of the training rows that `data.validation_share` sets aside.

    They depend only on the number of rows and `data.split_seed`. With `data.stratify` they also depend on the labels: the
    same share of the rows of each label, as far as whole rows allow, and never all of them.

    Raises:
      UserError: when one side would be empty.
    """
    share, count = config.data.validation_share, len(rows)
    held = round(count * share)
    if not 0 < held < count:
        raise UserError(f"data.validation_share {share} of {count} examples leaves one side empty")
    order = host_generator(config.data.split_seed, OfSeed.SPLIT).permutation(count)
    if not config.data.stratify:
        return np.sort(order[:held])
    return _stratified(order, task.strata(rows, config, origin), held)


def _stratified(order: np.ndarray, labels: Sequence[str], held: int) -> np.ndarray:
    """Indices of `held` rows, the same share of each label (by largest remainder), taken in the given order."""
    _, strata, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    exact = counts * (held / len(order))
    take = np.floor(exact).astype(np.int64)
    rest = np.argsort(take - exact, kind="stable")[: held - int(take.sum())]
    take[rest] += 1
    take = np.minimum(take, counts - 1)
    if not take.any():
        raise UserError("data.stratify: every label has too few rows for one of them to be set aside; leave it at false")
    grouped = order[np.argsort(strata[order], kind="stable")]
    begins = offsets_of(counts)[:-1]
    return np.sort(np.concatenate([grouped[b : b + n] for b, n in zip(begins, take, strict=True)]))


def validation_rows(directory: Path, task: Task, config: Config, name: str = "") -> Any:
    """The training rows that a run set aside for validation; for a model directory, those that the config would set aside.

    At most `data.max_eval_examples` are returned. `name` is that of the task in a run of several, whose config is `config`.

    Raises:
      UserError: when the training data is not what the run began with, or lacks rows that the run recorded.
    """
    origin = str(config.data.train)
    path = directory / rundir.validation_rows_file(name)
    recorded = path.is_file()
    if recorded:
        rundir.check_unchanged(directory, path.name)
        input_files.check_training_data(directory, config, name)
        if config.data.dataset and rundir.is_run(directory):
            before = every_task(rundir.read_run_config(directory))[name].data.train
            if before != config.data.train:
                raise UserError(f"{path}: names rows of data.train {before}, not of {config.data.train}")
    rows = first_rows(type(task), task.read(config, "train"), config, "train")
    if not recorded:
        rows, _ = drop_unknown_labels(task, rows, config, origin)
        return first_rows(type(task), select_rows(rows, held_out(task, rows, config, origin)), config, "validation")
    wanted = [int(number) for number in path.read_text(encoding="utf-8").split()]
    index_of = {number: index for index, number in enumerate(row_numbers(rows).tolist())}
    if missing := [number for number in wanted if number not in index_of]:
        raise UserError(f"{origin}: has no row {missing[0]}, which {path} names: it is not the file that the run began with")
    return first_rows(type(task), select_rows(rows, [index_of[number] for number in wanted]), config, "validation")
