"""Layouts, micro-batches and devices change how a step is computed, never what it computes."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxft.config import MeshConfig
from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.parallel import sharding
from jaxft.run.setup import Run, make_run
from jaxft.run.state import fresh_state
from jaxft.train import train
from tests.support import tiny
from tests.support.steps import LAYOUTS, TOLERANCE, assert_same, configure, gradients, moment_trees, rearranged


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """Another classifier, as the teacher."""
    return tiny.write_model(tmp_path_factory.mktemp("teacher") / "model", labels=tiny.LABELS, seed=9)


@pytest.fixture(scope="module")
def plain(classifier, tiny_data, tmp_path_factory) -> Run:
    return make_run(configure(classifier, tiny_data, tmp_path_factory.mktemp("runs") / "plain"))


@pytest.fixture(scope="module")
def reference(plain):
    return gradients(rearranged(plain, "pad"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_do_not_depend_on_the_layout(plain, reference, layout):
    assert_same(rearranged(plain, **LAYOUTS[layout]), reference)


def test_gradients_with_smoothing_and_a_teacher_do_not_depend_on_the_layout(classifier, teacher, tiny_data, tmp_path):
    sections = {
        "train": {"label_smoothing": 0.2},
        "distill": {"teacher": str(teacher), "alpha": 0.7, "temperature": 3.0},
    }
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", **sections))
    assert_same(rearranged(run, micro_batches=2, data=2, fsdp=2), gradients(rearranged(run, "pad")))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"loss": "mse", "temperature_schedule": "flsw"},
        {"temperature_schedule": "cwsm", "probability_shift": True, "alpha_end": 0.1},
    ],
)
def test_gradients_with_options_of_the_soft_loss_do_not_depend_on_the_layout(
    classifier, teacher, tiny_data, tmp_path, options
):
    """Losses that compare texts are in unit/test_soft_losses.py: this model has almost the same outputs for all texts."""
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", distill={"teacher": str(teacher), **options}))
    assert_same(rearranged(run, data=4, fsdp=2), gradients(rearranged(run, "pad")))


def test_gradients_with_penalties_and_mixout_do_not_depend_on_the_layout(classifier, tiny_data, tmp_path, reference):
    """They count once per step, whatever the number of micro-batches."""
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
        pytest.param({"mesh": {"data": 8}}, marks=pytest.mark.slow),
        {"mesh": {"data": 2, "fsdp": 4}},
        pytest.param({"data": {"layout": "pad"}, "train": {**SHORT["train"], "micro_batches": 4}}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_losses_of_runs_do_not_depend_on_the_layout(classifier, tiny_data, tmp_path, single_device, sections):
    found = losses(configure(classifier, tiny_data, tmp_path / "run", **{**SHORT, **sections}))
    assert len(found) == 7
    np.testing.assert_allclose(found, single_device, rtol=TOLERANCE)


def test_dropout_does_not_depend_on_devices(tiny_data, classifier, tmp_path, reference):
    """Rows of one length, as many as there are examples: then every device count has the same batch shape."""
    dropout = {"dropout": 0.2, "attention_dropout": 0.1, "classifier_dropout": 0.2}
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", model=dropout))
    one = gradients(rearranged(run, "pad"))
    assert_same(rearranged(run, "pad", data=4, fsdp=2), one)
    assert_same(rearranged(run, "pad", micro_batches=2, data=4), gradients(rearranged(run, "pad", micro_batches=2)))
    assert all(loss != pytest.approx(other, rel=1e-3) for (loss, _), (other, _) in zip(one, reference, strict=True))


def test_every_parameter_has_a_sharding_rule(plain):
    mesh = sharding.make_mesh(MeshConfig(2, 4))
    assert sharding.param_shardings(mesh, plain.params)
    odd = {"encoder": {"dense": {"kernel": np.ones((8, 8)), "gate": np.ones(8)}}}
    with pytest.raises(UserError, match=r"no rule, first encoder\.dense\.gate"):
        sharding.param_shardings(mesh, odd)


def test_parameters_and_moments_are_split_over_fsdp(plain):
    """Except vectors; 41 words, 3 token types and 3 labels are not divisible by 4, but the other axis is."""
    state, _ = fresh_state(rearranged(plain, data=2, fsdp=4))
    moments = moment_trees(state.opt_state)
    assert len(moments) == 2
    for params in (state.params, *moments):
        split = 0
        for path, x in tree.flatten(params).items():
            expected = 4 if path[-1] in ("kernel", "embedding") else 1
            sizes = {shard.data.size * expected for shard in x.addressable_shards}
            assert sizes == {x.size}, path
            split += expected > 1
        assert split == 11
