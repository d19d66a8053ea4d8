"""Runs whose training texts are augmented: they resume to the same bits, and compile no more programs."""

import shutil
from pathlib import Path

import pytest

from jaxft.core.errors import UserError
from jaxft.train import train
from jaxft.training import programs
from tests.support import tiny
from tests.support.resuming import MODEL, copy_run_at, journal, short_config

STEPS = {"steps": [{"step": "delete", "rate": 0.2}, {"step": "mask_pieces"}, {"step": "drop_pieces"}], "share": 0.7}


@pytest.fixture(scope="module")
def whole(tiny_model, tiny_data, tmp_path_factory) -> Path:
    """A run of two epochs of 7 steps with checkpoints every 3."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    train(config(tiny_model, tiny_data, directory))
    return directory


def config(model: Path, data: Path, output: Path, /, **sections):
    return short_config(model, data, output, **{"train": {"epochs": 2, "batch_size": 16}, "augment": STEPS, **sections})


@pytest.mark.parametrize("step", [3, pytest.param(9, marks=pytest.mark.slow)])
def test_a_resumed_run_ends_with_the_same_bits(whole, tiny_model, tiny_data, tmp_path, step):
    copy_run_at(step, whole, tmp_path / "half")
    train(config(tiny_model, tiny_data, tmp_path / "half"))
    assert (tmp_path / "half" / MODEL).read_bytes() == (whole / MODEL).read_bytes()
    assert journal(tmp_path / "half") == journal(whole)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mixup", "consistency"])
def test_a_run_of_pairs_resumes_to_the_same_bits(tiny_model, tiny_data, tmp_path, method):
    """In the middle of the second epoch, with dropout, and with what is drawn on the device."""
    sections = {"augment": STEPS | {"cutoff_tokens": 0.2, "mixup": 0.5}}
    if method == "consistency":
        texts = tiny.write_rows(tmp_path / "texts.csv", 50, seed=7)
        sections["unlabelled"] = {"data": str(texts), "ratio": 1, "annealing": "log"}
        sections["augment"] = STEPS | {"cutoff_span": 0.1}
    train(config(tiny_model, tiny_data, tmp_path / "whole", **sections))
    copy_run_at(9, tmp_path / "whole", tmp_path / "half")
    train(config(tiny_model, tiny_data, tmp_path / "half", **sections))
    assert (tmp_path / "half" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()
    assert journal(tmp_path / "half") == journal(tmp_path / "whole")


@pytest.mark.slow
def test_losses_on_eight_devices_are_those_on_one(whole, tiny_model, tiny_data, tmp_path):
    train(config(tiny_model, tiny_data, tmp_path / "run", mesh={"data": 4, "fsdp": 2}))
    pairs = zip(journal(tmp_path / "run"), journal(whole), strict=True)
    assert all(a["loss"] == pytest.approx(b["loss"], rel=1e-4) for a, b in pairs if "loss" in b)


@pytest.mark.parametrize("layout", ["bucket", pytest.param("pack", marks=pytest.mark.slow)])
def test_no_more_programs_are_compiled(tiny_model, tiny_data, tmp_path, monkeypatch, layout):
    requested = []
    make = programs.Programs._compile

    def counted(self, calls, *more):
        requested.append(list(calls))
        return make(self, requested[-1], *more)

    monkeypatch.setattr(programs.Programs, "_compile", counted)
    sections = {"data": {"validation": None, "layout": layout, "shapes": 2}, "train": {"epochs": 6, "batch_size": 16}}
    train(config(tiny_model, tiny_data, tmp_path / "run", **sections))
    assert len(requested) == 1  # before the first step
    assert len({call.shape for call in requested[0]}) <= 2


def test_a_changed_file_of_synonyms_refuses_the_run(tiny_model, tiny_data, tmp_path):
    path = tmp_path / "synonyms.tsv"
    path.write_text("river\tstone\n")
    steps = {"steps": [{"step": "replace", "file": str(path)}]}
    own = config(tiny_model, tiny_data, tmp_path / "run", train={"max_steps": 1, "batch_size": 16}, augment=steps)
    train(own)
    shutil.rmtree(tmp_path / "run" / "model")
    path.write_text("river\tsun\n")
    with pytest.raises(UserError, match=r"augment\.steps: .*synonyms\.tsv has changed"):
        train(own)
