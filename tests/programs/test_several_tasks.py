"""Several tasks in one step: each has the loss and the gradients that it has alone, in every layout."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxft.run.setup import make_run
from jaxft.train import train
from tests.support import several, tiny
from tests.support.steps import LAYOUTS, TOLERANCE, assert_same, gradients, rearranged

ALL = ["moods", "tags", "answers", "words", "endings"]
SMALL = {"model": {"num_layers": 1}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return several.write_files(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def whole(tiny_model, folder, tmp_path_factory):
    """A run of all tasks, of which two have other weights than 1."""
    changes = {"tags": {"weight": 0.5}, "words": {"weight": 2.0}}
    config = several.configure(tiny_model, folder, tmp_path_factory.mktemp("runs") / "run", ALL, changes=changes, **SMALL)
    return make_run(config)


@pytest.fixture(scope="module")
def reference(whole):
    return gradients(rearranged(whole, "pad"))


@pytest.mark.parametrize(
    "layout",
    [x if x == "data 4, fsdp 2" else pytest.param(x, marks=pytest.mark.slow) for x in LAYOUTS],
)
def test_gradients_do_not_depend_on_the_layout(whole, reference, layout):
    """Of steps in which every row may hold examples of five tasks."""
    assert_same(rearranged(whole, **LAYOUTS[layout]), reference)


def test_packed_micro_batches_have_the_same_gradients(whole, reference):
    """A micro-batch may have no example of a task."""
    assert_same(rearranged(whole, micro_batches=5), reference)


def test_the_loss_is_the_weighted_sum_of_what_the_tasks_have_apart(tiny_model, folder, tmp_path):
    """In the same steps, of which only one task counts: a part and the whole are divided by different weights."""
    weights = {"moods": 1.0, "words": 2.0}

    def found(**own: float):
        changes = {name: {"weight": own.get(name, 0.0)} for name in weights}
        sections = {"changes": changes, "train": {"batch_size": 8}, **SMALL}
        run = make_run(several.configure(tiny_model, folder, tmp_path / "run", list(weights), **sections))
        return gradients(rearranged(run, "pad"))

    parts = [found(**{name: 1.0}) for name in weights]
    for (loss, grads), *own in zip(found(**weights), *parts, strict=True):
        assert loss == pytest.approx(sum(w * x for w, (x, _) in zip(weights.values(), own, strict=True)), rel=TOLERANCE)
        largest = max(np.abs(g).max() for g in grads.values())
        for key, g in grads.items():
            expected = sum(w * x[key] for w, (_, x) in zip(weights.values(), own, strict=True))
            assert np.abs(g - expected).max() <= TOLERANCE * largest, key


def losses(config) -> list[float]:
    train(config)
    rows = map(json.loads, (Path(config.output_dir) / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.parametrize("kind", ["moods", *(pytest.param(x, marks=pytest.mark.slow) for x in ("words", "endings"))])
def test_a_task_of_weight_0_changes_nothing(tiny_model, folder, tmp_path, kind):
    """Two tasks of equally many examples share each step, so the first has the batches that it has alone."""
    files = {"tags": {"weight": 0.0, "data": {"validation": None}}, kind: {"data": {"validation": None}}}
    short = {"log": {"every": 1, "progress": False, "report": False}, "runtime": {"skip_unused_words": False}}
    batch = {"train": {"epochs": 1, "batch_size": 6}, **SMALL}
    both = several.configure(tiny_model, folder, tmp_path / "both", [kind, "tags"], changes=files, **batch, **short)
    run = make_run(both)
    sizes = run.sampler.orders.counts(0)
    assert run.steps_per_epoch * sizes[0] == np.diff(run.data["train"].begins)[0], "one pass an epoch"
    own = several.elements(folder, [kind])[0]
    sections = {"task": own.get("task", {}), "data": {**own["data"], "validation": None}}
    sections["train"] = {"epochs": 1, "batch_size": int(sizes[0])}
    alone = tiny.run_config(
        tiny_model, folder, tmp_path / "alone", model={**tiny.NO_DROPOUT, **SMALL["model"]}, **sections, **short
    )
    expected = losses(alone)
    assert len(expected) == run.steps_per_epoch
    np.testing.assert_allclose(losses(both), expected, rtol=1e-6)
