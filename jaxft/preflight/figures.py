"""figures.json: figures of a run's data, plan and versions, which its report shows."""

import json
import platform
from collections import Counter
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.config.of_tasks import of_tasks
from jaxft.core.errors import UserError
from jaxft.core.output import writing
from jaxft.preflight.learning_rates import learning_rates
from jaxft.run.setup import Run
from jaxft.run.teacher_labels import is_labelled
from jaxft.tasks.several_splits import SeveralSplits
from jaxft.tasks.task import Split

FILE = "figures.json"
BINS, POINTS = 24, 200
MOST_COMPARED = 1_000_000  # examples of a split, whose repetitions are counted in about a second
PACKAGES = ("jaxft", "jax", "jaxlib", "flax", "optax", "numpy", "tokenizers", "datasets")


def write(run: Run, path: Path) -> None:
    """Write the figures of a run into a file."""
    with writing(str(path)) as file:
        file.write(f"{json.dumps(figures(run), ensure_ascii=False)}\n".encode("utf-8", "replace"))


def figures(run: Run) -> dict[str, Any]:
    """Sizes, lengths and labels of the splits; the trained groups with their learning rates; padding; versions."""
    steps = np.unique(np.linspace(0, run.total_steps - 1, min(run.total_steps, POINTS)).round().astype(int))
    rates = learning_rates(run, steps)
    groups = [
        {
            "pattern": row.pattern,
            "parameters": row.parameters,
            "weight_decay": _decay(run, row),
            "unfreeze": row.setting.unfreeze,
            "highest_learning_rate": _rounded(rates[row.pattern].max()),
            "steps": (steps + 1).tolist(),
            "learning_rates": [_rounded(x) for x in rates[row.pattern]],
        }
        for row in run.plan.rows
        if row.setting.trainable
    ]
    return {
        "task": run.task.kind,
        "splits": _splits(run),
        "padding": _rounded(1 - run.sampler.epoch_batches(0).fill()),
        "groups": groups,
        "frozen_parameters": sum(row.parameters for row in run.plan.rows if not row.setting.trainable),
        "versions": _versions(),
        "devices": f"{run.mesh.size} x {run.mesh.devices.flat[0].device_kind}",
    }


def _decay(run: Run, row: Any) -> float | str:
    decay = row.setting.weight_decay
    if row.decay_by_kind:
        return f"{run.config.optim.weight_decay:g}, none for biases and norms"
    return run.config.optim.weight_decay if decay is True else float(decay)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # jaxft may run without being installed
            found[name] = version(name)
    return found


def _splits(run: Run) -> dict[str, dict[str, Any]]:
    found = {name: _split(run, data) for name, data in run.data.items()}
    if max(len(data.examples) for data in run.data.values()) > MOST_COMPARED or run.task.masks_inputs:
        return found
    seen = {name: _contents(data) for name, data in run.data.items()}
    for name, own in seen.items():
        found[name]["repeated"] = len(own) - len(set(own))
        found[name]["in_train"] = None if name == "train" else sum(map(set(seen["train"]).__contains__, own))
    return found


def _contents(data: Split) -> list[int]:
    """A hash of the tokens of each example."""
    ids, bounds = data.examples.tokens["input_ids"], data.examples.offsets[:: data.examples.group]
    return [hash(ids[start:end].tobytes()) for start, end in pairwise(bounds.tolist())]


def _split(run: Run, data: Split) -> dict[str, Any]:
    lengths, longest = data.examples.lengths, _longest(run, data)
    high = int(lengths.max())
    width = max(1, -(-high // BINS))
    counts = np.bincount((lengths - 1) // width)
    found = {
        "rows": len(data.rows),
        "examples": len(data.examples),
        "median_length": _rounded(np.median(lengths)),
        "longest": high,
        "at_limit": int((lengths >= longest).sum()),
        "lengths": [
            [f"{i * width + 1}-{(i + 1) * width}" if width > 1 else str(i + 1), int(n)] for i, n in enumerate(counts)
        ],
    }
    if run.task.names_labels and (labels := _labels(run, data)):
        found["labels"] = dict(sorted(Counter(chain.from_iterable(labels)).items()))
    return found


def _longest(run: Run, data: Split) -> Any:
    """The most tokens that an example may have, or those of each, int64 [N], in a run of several tasks."""
    if not isinstance(data, SeveralSplits):
        return run.config.data.max_length * data.examples.group
    groups = {name: part.examples.group for name, part in data.parts.items()}
    lengths = [own.data.max_length * groups.get(name, 1) for name, own in of_tasks(run.config).items()]
    return np.repeat(lengths, np.diff(data.begins))


def _labels(run: Run, data: Split) -> Any:
    if data is run.data["train"] and not is_labelled(run.config, "train"):
        return None
    try:
        return run.task.row_labels(data.rows, run.config, data.origin)
    except UserError:  # rows that a limit leaves out of the examples are not checked
        return None


def _rounded(value: Any) -> float:
    return float(f"{value:.6g}")
