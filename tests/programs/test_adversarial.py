"""Adversarial training in the train step of a run: any layout and task, exact resuming, and no second forward pass."""

import numpy as np
import pytest

from jaxft.core.errors import UserError
from jaxft.run.setup import make_run
from tests.support import choices, questions, running_text, tagged, tiny
from tests.support.steps import assert_same, configure, gradients, rearranged

METHODS = {
    "fgm": {"method": "fgm", "epsilon": 0.5},
    "pgd": {"method": "pgd", "steps": 2, "epsilon": 0.4},
    "freelb": {"method": "freelb", "start": 0.4},
    "smart": {"method": "smart", "start": 1e-2, "step_size": 0.1, "weight": 50.0},
    "vat": {"method": "vat", "epsilon": 0.5, "start": 0.1, "weight": 5.0},
}
LAYOUTS = [{"layout": "bucket"}, {"layout": "pack"}, {"data": 4, "fsdp": 2, "micro_batches": 2}]


@pytest.mark.parametrize("method", METHODS)
def test_gradients_do_not_depend_on_the_layout(classifier, tiny_data, tmp_path, method):
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", adversarial=METHODS[method]))
    expected = gradients(rearranged(run, "pad"))
    plain = gradients(rearranged(make_run(configure(classifier, tiny_data, tmp_path / "plain")), "pad"))
    assert all(a[0] > b[0] + 1e-4 for a, b in zip(expected, plain, strict=True))
    assert all(np.isfinite(x).all() for _, grads in expected for x in grads.values())
    for layout in LAYOUTS:
        assert_same(rearranged(run, **layout), expected)
