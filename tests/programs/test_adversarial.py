"""Adversarial training in the train step of a run: any layout and any task, and exact resuming."""

import numpy as np
import pytest

from jaxft.run.setup import make_run
from jaxft.training import frozen_features
from tests.support import tiny
from tests.support.every_task import KINDS
from tests.support.resuming import MODEL, assert_resume_is_exact
from tests.support.steps import assert_same, configure, gradients, rearranged

METHODS = {
    "fgm": {"method": "fgm", "epsilon": 0.5},
    "pgd": {"method": "pgd", "steps": 2, "epsilon": 0.4},
    "freelb": {"method": "freelb", "start": 0.4},
    "smart": {"method": "smart", "start": 1e-2, "step_size": 0.1, "weight": 50.0},
    "vat": {"method": "vat", "epsilon": 0.5, "start": 0.3, "weight": 2.0},
}
FIRST = ("freelb", "smart")
EVERY = [pytest.param(name, marks=[] if name in FIRST else [pytest.mark.slow]) for name in METHODS]
EIGHT = {"data": 4, "fsdp": 2, "micro_batches": 2}


@pytest.mark.parametrize("method", EVERY)
def test_gradients_do_not_depend_on_the_layout(classifier, tiny_data, tmp_path, method):
    """The last step has few examples, so there are rows without texts."""
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", adversarial=METHODS[method]))
    expected = gradients(rearranged(run, "pad"))
    plain = gradients(rearranged(make_run(configure(classifier, tiny_data, tmp_path / "plain")), "pad"))
    assert all(abs(a[0] - b[0]) > 1e-4 for a, b in zip(expected, plain, strict=True))
    assert all(np.isfinite(x).all() for _, grads in expected for x in grads.values())
    for layout in ({"layout": "pack"}, EIGHT):
        assert_same(rearranged(run, **layout), expected)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["freelb", "vat"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_task_has_adversaries(kind, tmp_path, method):
    student = tiny.write_model(tmp_path / "model", num_hidden_layers=1)
    sections = {"model": {"path": str(student), **tiny.NO_DROPOUT}, "adversarial": METHODS[method]}
    run = make_run(KINDS[kind](student, tmp_path, tmp_path / "run", **sections))
    expected = gradients(rearranged(run, "pad"))
    assert_same(rearranged(run), expected)
    assert_same(rearranged(run, micro_batches=2, data=2, fsdp=2), expected)


@pytest.mark.parametrize("method", [pytest.param("fgm", marks=pytest.mark.slow), "freelb"])
def test_resuming_is_exact(classifier, tiny_data, tmp_path, method):
    """With dropout."""
    sections = {"model": {"path": str(classifier)}, "adversarial": METHODS[method]}
    assert_resume_is_exact(classifier, tiny_data, tmp_path, MODEL, **sections)


def test_frozen_layers_are_computed_in_every_step(classifier, tiny_data, tmp_path):
    sections = {"plan": {"preset": "head"}, "adversarial": METHODS["fgm"]}
    assert frozen_features.frozen_layers(make_run(configure(classifier, tiny_data, tmp_path / "run", **sections))) == 0
