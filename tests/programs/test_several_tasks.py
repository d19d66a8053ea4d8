"""Several tasks in one step: each has the loss and the gradients that it has alone, in every layout."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxft.run.setup import make_run
from jaxft.train import train
from tests.support import several, tiny
from tests.support.steps import LAYOUTS, TOLERANCE, assert_same, gradients, rearranged

ALL = ["moods", "tags", "answers", "words"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return several.write_files(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def whole(tiny_model, folder, tmp_path_factory):
    """A run of all tasks, of which two have other weights than 1."""
    changes = {"tags": {"weight": 0.5}, "words": {"weight": 2.0}}
    config = several.configure(tiny_model, folder, tmp_path_factory.mktemp("runs") / "run", ALL, changes=changes)
    return make_run(config)


@pytest.fixture(scope="module")
def reference(whole):
    return gradients(rearranged(whole, "pad"))


@pytest.mark.parametrize(
    "layout",
    [x if x == "data 4, fsdp 2" else pytest.param(x, marks=pytest.mark.slow) for x in LAYOUTS],
)
def test_gradients_do_not_depend_on_the_layout(whole, reference, layout):
    """Of steps in which every row may hold examples of four tasks."""
    assert_same(rearranged(whole, **LAYOUTS[layout]), reference)


def test_packed_micro_batches_have_the_same_gradients(whole, reference):
    """A micro-batch may have no example of a task."""
    assert_same(rearranged(whole, micro_batches=5), reference)


def test_the_loss_is_the_weighted_sum_of_what_the_tasks_have_apart(tiny_model, folder, tmp_path, whole, reference):
    """The same steps, in which only one task counts, whatever the weights of the others are divided by."""
    weights = {"moods": 1.0, "tags": 0.5, "answers": 1.0, "words": 2.0}
    sums = [0.0] * len(reference)
    total: list[dict[str, np.ndarray]] = [{} for _ in reference]
    for name in ALL:
        changes = {other: {"weight": float(other == name)} for other in ALL}
        run = make_run(several.configure(tiny_model, folder, tmp_path / "run", ALL, changes=changes))
        for i, (loss, grads) in enumerate(gradients(rearranged(run, "pad"))):
            sums[i] += weights[name] * loss
            total[i] = {key: total[i].get(key, 0.0) + weights[name] * g for key, g in grads.items()}
    for (loss, grads), sum_of_losses, sum_of_gradients in zip(reference, sums, total, strict=True):
        assert loss == pytest.approx(sum_of_losses, rel=TOLERANCE)
        largest = max(np.abs(g).max() for g in grads.values())
        for key, g in grads.items():
            assert np.abs(g - sum_of_gradients[key]).max() <= TOLERANCE * largest, key


def losses(config) -> list[float]:
    train(config)
    rows = map(json.loads, (Path(config.output_dir) / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.parametrize("kind", ["moods", "words"])
def test_a_task_of_weight_0_changes_nothing(tiny_model, folder, tmp_path, kind):
    """Two tasks of equally many examples share each step, so the first has the batches that it has alone."""
    files = {"tags": {"weight": 0.0, "data": {"validation": None}}, kind: {"data": {"validation": None}}}
    short = {"log": {"every": 1, "progress": False, "report": False}, "runtime": {"skip_unused_words": False}}
    batch = {"train": {"epochs": 2, "batch_size": 6}}
    both = several.configure(tiny_model, folder, tmp_path / "both", [kind, "tags"], changes=files, **batch, **short)
    run = make_run(both)
    sizes = run.sampler.orders.counts(0)
    assert run.steps_per_epoch * sizes[0] == np.diff(run.data["train"].begins)[0], "one pass an epoch"
    own = several.elements(folder, [kind])[0]
    sections = {"task": own.get("task", {}), "data": {**own["data"], "validation": None}}
    sections["train"] = {"epochs": 2, "batch_size": int(sizes[0])}
    alone = tiny.run_config(tiny_model, folder, tmp_path / "alone", model=tiny.NO_DROPOUT, **sections, **short)
    expected = losses(alone)
    assert len(expected) == 2 * run.steps_per_epoch
    np.testing.assert_allclose(losses(both), expected, rtol=1e-6)
