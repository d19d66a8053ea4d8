"""Layouts, micro-batches and devices change how a step is computed, never what it computes."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from jaxft import optim, runtime, sharding, tree
from jaxft.config import MeshConfig
from jaxft.data.batches import make_planner
from jaxft.data.feed import put
from jaxft.distill import NAME, TEACHERS
from jaxft.errors import UserError
from jaxft.regularization import REFERENCE
from jaxft.setup import Run, make_run, run_loss
from jaxft.state import fresh_state
from jaxft.step import init_state, train_step
from jaxft.train import train
from tests import tiny

TOLERANCE = 1e-5
STEPS = (1, 6)  # 100 examples in steps of 16: the last step holds 4, fewer than there are devices
# An "optimizer" whose state after a step is the step's gradients.
RECORDER = optim.Optimizer(
    lambda _: optax.GradientTransformation(lambda p: jax.tree.map(np.zeros_like, p), lambda g, *_: (g, g)), False
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """Another one, to learn from."""
    return tiny.write_model(tmp_path_factory.mktemp("teacher") / "model", labels=tiny.LABELS, seed=9)


def configure(model: Path, data: Path, output: Path, /, **sections: dict):
    sections["model"] = {"path": str(model), **tiny.NO_DROPOUT, **sections.get("model", {})}
    sections["data"] = {"validation": None, **sections.get("data", {})}
    return tiny.run_config(model, data, output, **sections)


def rearranged(run: Run, layout: str = "pack", micro_batches: int = 1, data: int = 1, fsdp: int = 1) -> Run:
    """The run with another layout, other micro-batches or other devices."""
    mesh, examples = sharding.make_mesh(MeshConfig(data, fsdp)), run.data["train"].examples
    planner = make_planner(
        examples.lengths,
        batch_size=run.config.train.batch_size,
        max_length=run.config.data.max_length * examples.group,
        layout=layout,
        seed=run.config.seed,
        shapes=1,
        micro_batches=micro_batches,
        shards=mesh.size,
    )
    return replace(run, planner=planner, mesh=mesh)


def gradients(run: Run) -> list[tuple[float, dict[str, np.ndarray]]]:
    """(loss, gradient by parameter name) of each of STEPS, through the real train step."""
    trainable, frozen = run.plan.split(run.params)
    trainable = sharding.place(trainable, sharding.param_shardings(run.mesh, trainable))
    if run.teacher:
        frozen = frozen | {TEACHERS: {NAME: run.teacher[1]}}
    if run.regularization.needs_reference:  # as far away as training would go
        frozen = frozen | {REFERENCE: jax.tree.map(lambda x: x * 0.9, run.plan.split(run.params)[0])}
    frozen = sharding.place(frozen, sharding.param_shardings(run.mesh, frozen))
    state = init_state(trainable, RECORDER, runtime.root_key(0), optim.hyperparameters(run.config.optim))
    step = jax.jit(
        partial(
            train_step,
            loss_fn=run_loss(run),
            optimizer=RECORDER,
            prepare=run.task.prepare,
            regularization=run.regularization,
        )
    )
    plan = run.planner.plan_epoch(0)
    results = []
    for number in STEPS:
        rows = plan.shape(number).rows // run.planner.micro_batches
        batch = put(plan.batch(run.data["train"].examples, number), sharding.batch_sharding(run.mesh), rows)
        with sharding.known(run.mesh):
            after, metrics = step(state, frozen, batch)
        grads = tree.unstack(tree.recut(jax.tree.map(np.asarray, after.opt_state), []))
        results.append((float(metrics["loss"]), grads))
    return results


def assert_same(run: Run, reference: list[tuple[float, dict[str, np.ndarray]]]) -> None:
    for (loss, grads), (right_loss, right) in zip(gradients(run), reference, strict=True):
        assert loss == pytest.approx(right_loss, rel=TOLERANCE)
        assert grads.keys() == right.keys()
        largest = max(np.abs(g).max() for g in right.values())
        assert largest > 1e-3
        for name, g in grads.items():
            assert np.abs(g - right[name]).max() <= TOLERANCE * largest, name


WAYS = {
    "bucket": {"layout": "bucket"},
    "pack": {},
    "5 micro-batches padded": {"micro_batches": 5, "layout": "pad"},
    "data 4, fsdp 2": {"data": 4, "fsdp": 2},
    "fsdp 8, 2 micro-batches": {"fsdp": 8, "micro_batches": 2},
}


@pytest.fixture(scope="module")
def plain(classifier, tiny_data, tmp_path_factory) -> Run:
    return make_run(configure(classifier, tiny_data, tmp_path_factory.mktemp("runs") / "plain"))


@pytest.fixture(scope="module")
def reference(plain):
    return gradients(rearranged(plain, "pad"))


@pytest.mark.parametrize("way", WAYS)
def test_gradients(plain, reference, way):
    assert_same(rearranged(plain, **WAYS[way]), reference)


def test_gradients_with_smoothing_and_a_teacher(classifier, teacher, tiny_data, tmp_path):
    sections = {
        "train": {"label_smoothing": 0.2},
        "distill": {"teacher": str(teacher), "alpha": 0.7, "temperature": 3.0},
    }
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", **sections))
    assert_same(rearranged(run, micro_batches=2, data=2, fsdp=2), gradients(rearranged(run, "pad")))


def test_gradients_with_penalties_and_mixout(classifier, tiny_data, tmp_path, reference):
    """Once a step, whatever its parts."""
    changes = {"l1": 1e-3, "l2": 0.02, "l2_sp": 0.5, "l2_sp_head": 0.05, "mixout": 0.3}
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", regularization=changes))
    found = gradients(rearranged(run, "pad"))
    assert all(abs(loss - plain) > 0.01 for (loss, _), (plain, _) in zip(found, reference, strict=True))
    assert_same(rearranged(run, micro_batches=2, data=2, fsdp=2), found)


def losses(config) -> list[float]:
    train(config)
    rows = map(json.loads, (Path(config.output_dir) / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


SHORT = {"log": {"every": 1, "progress": False}, "train": {"epochs": 1, "batch_size": 16}}


@pytest.fixture(scope="module")
def single_device(classifier, tiny_data, tmp_path_factory) -> list[float]:
    return losses(configure(classifier, tiny_data, tmp_path_factory.mktemp("runs") / "one", **SHORT))


@pytest.mark.parametrize(
    "sections",
    [
        {"mesh": {"data": 8}},
        {"mesh": {"data": 2, "fsdp": 4}},
        {"data": {"layout": "pad"}, "train": {**SHORT["train"], "micro_batches": 4}},
    ],
    ids=str,
)
def test_whole_runs(classifier, tiny_data, tmp_path, single_device, sections):
    found = losses(configure(classifier, tiny_data, tmp_path / "run", **{**SHORT, **sections}))
    assert len(found) == 7
    np.testing.assert_allclose(found, single_device, rtol=TOLERANCE)


def test_dropout_does_not_depend_on_devices(tiny_data, classifier, tmp_path):
    """Rows of one length, as many as there are examples: then every device count has the same batch shape."""
    dropout = {"dropout": 0.2, "attention_dropout": 0.1, "classifier_dropout": 0.2}
    found = {}
    for name, mesh in {"one": {"data": 1}, "eight": {"data": 4, "fsdp": 2}}.items():
        sections = {**SHORT, "model": dropout, "data": {"layout": "pad"}, "mesh": mesh}
        found[name] = losses(configure(classifier, tiny_data, tmp_path / name, **sections))
    np.testing.assert_allclose(found["eight"], found["one"], rtol=TOLERANCE)


def test_every_parameter_has_a_sharding_rule(plain):
    mesh = sharding.make_mesh(MeshConfig(2, 4))
    assert sharding.param_shardings(mesh, plain.params)
    odd = {"encoder": {"dense": {"kernel": np.ones((8, 8)), "gate": np.ones(8)}}}
    with pytest.raises(UserError, match=r"no rule, first encoder\.dense\.gate"):
        sharding.param_shardings(mesh, odd)


def test_parameters_and_moments_are_split_over_fsdp(plain):
    """All but vectors; 41 words, 3 types and 3 labels do not divide by 4, but their other axis does."""
    state, _ = fresh_state(rearranged(plain, data=2, fsdp=4))
    moments = [x for x in jax.tree.leaves(state.opt_state, is_leaf=lambda x: isinstance(x, dict)) if isinstance(x, dict)]
    assert len(moments) == 2
    for params in (state.params, *moments):
        split = 0
        for path, x in tree.flatten(params).items():
            expected = 4 if path[-1] in ("kernel", "embedding") else 1
            sizes = {shard.data.size * expected for shard in x.addressable_shards}
            assert sizes == {x.size}, path
            split += expected > 1
        assert split == 11
