"""run.json: what a run learns from its data when it begins, so that later changes of the data never change its model."""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.config import Config
from jaxft.core import checksums
from jaxft.core.errors import UserError
from jaxft.run import rundir

_SEAL = "sha256"


@dataclass(frozen=True)
class Record:
    """What a run learns from its data, apart from its parameters.

    Attributes:
      labels: names in the order of their ids; None for a task without labels. Of several tasks, those of each by its name.
      fields: the task's fields of config.json, before thresholds are tuned. Of several tasks, those of each by its name.
      fitted: whether there is no threshold to tune.
      steps_per_epoch, total_steps: optimizer steps.
      words: ids of the tokens whose embeddings are trained (see `unused_embeddings.used_words`); None for all.
      thresholds: step -> the fields of config.json with thresholds tuned for the parameters of that step.
      projections: number of a match -> widths of student and teacher, of those matches that have a projection.
      domain_head: widths of the domain classifier (see `step.domain_head`); empty without one.
    """

    labels: tuple[str, ...] | Mapping[str, tuple[str, ...] | None] | None
    fields: Mapping[str, Any]
    fitted: bool
    steps_per_epoch: int
    total_steps: int
    words: np.ndarray | None = None
    thresholds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    projections: Mapping[str, Sequence[int]] = field(default_factory=dict)
    domain_head: Sequence[int] = ()

    def labels_of(self, task: str = "") -> tuple[str, ...] | None:
        """The labels of one of several tasks, or of the only one."""
        return self.labels[task] if isinstance(self.labels, Mapping) else self.labels

    def text(self) -> str:
        """The record as JSON with its own digest; `words` is a bit mask in base64, which is short."""
        content = {**vars(self), "words": _bits(self.words)}
        return json.dumps({**content, _SEAL: checksums.of_json(content)}, indent=1) + "\n"


def read(directory: Path) -> Record | None:
    """The record of a run; None for a run of an older version, which wrote none.

    Raises:
      UserError: for a file that is damaged, or has been lost.
    """
    path = directory / rundir.RECORD
    if not path.is_file():
        if _was_written(directory):
            raise UserError(f"{path}: is not there; without it, the run's labels cannot be known")
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        digest = found.pop(_SEAL, None)  # older versions wrote none
        if digest is not None and digest != checksums.of_json(found):
            raise ValueError("it has other content than was written")
        labels = found["labels"]
        own = {name: _names(x) for name, x in labels.items()} if isinstance(labels, dict) else _names(labels)
        head = tuple(found.get("domain_head", ()))
        return Record(**{**found, "labels": own, "words": _ids(found["words"]), "domain_head": head})
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: is damaged; without it, the run's labels cannot be known") from error


def recorded(config: Config) -> Record | None:
    """The record of the run that this config resumes; None if it begins a run."""
    return read(Path(config.output_dir)) if rundir.is_begun(config) else None


def add_thresholds(directory: Path, step: int, fields: Mapping[str, Any]) -> None:
    """Record the thresholds that were tuned for the parameters of a step."""
    record = read(directory)
    if record is None:
        return
    record = replace(record, thresholds={**record.thresholds, str(step): fields})
    temporary = directory / f".{rundir.RECORD}"
    temporary.write_text(record.text(), encoding="utf-8")
    os.replace(temporary, directory / rundir.RECORD)


def _was_written(directory: Path) -> bool:
    """Whether a run has written a record, by its checksums; older versions had none."""
    try:
        return bool(checksums.read_sealed(directory / checksums.MANIFEST).get("record"))
    except (FileNotFoundError, NotADirectoryError, checksums.Damaged):
        return False


def _names(labels: Any) -> tuple[str, ...] | None:
    return None if labels is None else tuple(map(str, labels))


def _bits(ids: np.ndarray | None) -> str | None:
    if ids is None:
        return None
    used = np.zeros(int(ids.max(initial=-1)) + 1, bool)
    used[ids] = True
    return base64.b64encode(np.packbits(used).tobytes()).decode()


def _ids(text: str | None) -> np.ndarray | None:
    return None if text is None else np.flatnonzero(np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8)))
