"""Several tasks in one step: each has the loss and the gradients that it has alone, in every layout."""

import pytest

from jaxft.run.setup import make_run
from tests.support import several
from tests.support.steps import gradients, rearranged

ALL = ["moods", "tags", "answers", "words"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return several.write_files(tmp_path_factory.mktemp("tasks"))


def test_all(tiny_model, folder, tmp_path):
    run = make_run(several.configure(tiny_model, folder, tmp_path / "run", ALL))
    found = gradients(rearranged(run, "pad"))
    print([x for x, _ in found])
