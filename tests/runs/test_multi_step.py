"""Several steps per execution give what single steps give; an execution ends before any other event."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.core.errors import UserError
from jaxft.data.batching import batch_sampler
from jaxft.data.batching.batch_sampler import Shape
from jaxft.models.weights.tensor_files import open_weights
from jaxft.run.setup import make_run
from jaxft.step.multi_step import Calendar, multi_steps
from jaxft.train import train
from jaxft.training import batch_feed
from jaxft.training.batch_feed import BatchFeed
from tests.support import read_jsonl, tiny
from tests.support.resuming import MODEL, assert_journals_close, assert_resume_is_exact, copy_run_at, journal

SHAPES = [Shape(rows=4, length=n, slots=1) for n in (8, 16)]
HEAD = {"plan": {"preset": "head"}, "model": {**tiny.NO_DROPOUT, "classifier_dropout": 0.3}}


def several(steps: int | None) -> dict:
    return {"distributed": "off", "unroll": 1, "steps_per_execution": steps}


@pytest.fixture
def made(monkeypatch):
    """The number of steps of each execution of a run."""
    found, make = [], BatchFeed.batches

    def counted(self, start):
        for steps, *rest in make(self, start):
            found.append(len(steps))
            yield steps, *rest

    monkeypatch.setattr(BatchFeed, "batches", counted)
    return found


calendars = st.builds(
    Calendar,
    total=st.integers(1, 60),
    epoch=st.integers(1, 30),
    evaluate=st.none() | st.integers(1, 70),
    save=st.integers(1, 70),
    stages=st.lists(st.integers(1, 70), max_size=2).map(tuple),
)


@given(calendar=calendars, most=st.integers(1, 9), shapes=st.lists(st.integers(0, 1), min_size=60, max_size=60))
@settings(max_examples=200, deadline=None)
def test_executions_cover_all_steps_and_end_at_events(calendar, most, shapes):
    """They are as long as possible, and after any event the same as in the whole run."""

    def made(start):
        return list(multi_steps(calendar, start, most, lambda step: SHAPES[shapes[step]]))

    def happens(done):
        due = done % calendar.epoch == 0 or done in calendar.stages
        return due or calendar.saves(done) or calendar.evaluates(done)

    found = made(0)
    assert [step for execution in found for step in execution] == list(range(calendar.total))
    events = [done for done in range(1, calendar.total + 1) if happens(done)]
    for execution in found:
        assert len(execution) in (1, most)
        assert len({shapes[step] for step in execution}) == 1
        assert not any(happens(done) for done in range(execution.start + 1, execution.stop))
        ahead = range(execution.start, execution.start + most)
        apart = any(done in events for done in range(ahead.start + 1, ahead.stop)) or ahead.stop > calendar.total
        if len(execution) < most:
            assert apart or len({shapes[step] for step in ahead}) == 2
    for done in events:
        assert made(done) == [execution for execution in found if execution.start >= done]
    assert calendar.longest == max(np.diff([0, *events]))


def masked(tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("the old river runs over stone. the sun is red\n\n" * 60)
    return {"task": {"name": "fill-mask"}, "data": {"train": str(texts), "validation": None}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sections", "task"),
    [
        ({"regularization": {"ema": 0.9, "mixout": 0.2}, "model": {"dropout": 0.1}}, None),
        ({"plan": {"preset": "gradual", "unfreeze_every": 5}, "data": {"layout": "bucket", "shapes": 2}}, None),
        ({"mesh": {"data": 2, "fsdp": 2}, "train": {"batch_size": 16, "micro_batches": 2, "epochs": 2}}, None),
        ({"optim": {"schedule": "plateau", "plateau_patience": 1}, "train": {"dtype": "bfloat16", "epochs": 2}}, None),
        (HEAD, None),
        ({"train": {"epochs": 3, "batch_size": 8}}, masked),
    ],
    ids=["average and mixout", "stages and shapes", "devices", "plateau and bfloat16", "kept", "masked words"],
)
def test_a_run_gives_what_single_steps_give(tiny_model, tiny_data, tmp_path, made, sections, task):
    sections = sections | (task(tmp_path) if task else {})
    found, journals = [], []
    for steps in (1, 3):
        made.clear()
        path = tmp_path / f"{steps}"
        own = {"eval": {"every": 4}, "log": {"every": 1}, "checkpoint": {"select": "last"}}
        train(tiny.run_config(tiny_model, tiny_data, path, **own, **sections, runtime=several(steps)))
        assert max(made) == steps
        found.append({name: x.read() for name, x in open_weights(path / "model")[0].items()})
        journals.append(journal(path))
    assert_journals_close(*journals, rel=1e-4)
    for name, x in found[0].items():
        if not name.endswith("key.bias"):  # its gradient is zero but for rounding, which Adam makes large
            assert found[1][name] == pytest.approx(x, rel=1e-4, abs=1e-5), name


@pytest.mark.slow
def test_resuming_is_exact(tiny_model, tiny_data, tmp_path):
    """Also with dropout, and with a row for every step."""
    assert_resume_is_exact(tiny_model, tiny_data, tmp_path, MODEL, model={"path": str(tiny_model)}, runtime=several(2))


def test_steps_of_an_execution_share_one_speed(tiny_model, tiny_data, tmp_path):
    """They have no times of their own."""
    own = {"eval": {"every": 6}, "log": {"every": 1}, "train": {"epochs": 1, "batch_size": 16}, "model": tiny.NO_DROPOUT}
    config = tiny.run_config(tiny_model, tiny_data, tmp_path / "run", **own, runtime=several(3))
    train(config)
    rows = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    rows = [row for row in rows if "loss" in row]
    speeds = [row["tokens_per_second"] for row in rows]
    assert [row["step"] for row in rows] == list(range(1, 8))
    assert len(set(speeds[:3])) == len(set(speeds[3:6])) == 1
    assert len(set(speeds)) == 3


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_named_by_its_step(tiny_model, tiny_data, tmp_path):
    found = []
    for steps in (1, 3):
        own = {"optim": {"learning_rate": 1e30, "clip": None, "warmup": 0}, "eval": {"every": 6}}
        with pytest.raises(UserError, match="the loss became") as error:
            train(tiny.run_config(tiny_model, tiny_data, tmp_path / f"{steps}", **own, runtime=several(steps)))
        found.append(str(error.value).partition(" (")[0])
    assert found[0] == found[1]


def test_more_steps_than_lie_between_events_are_refused(tiny_model, tiny_data, tmp_path):
    own = {"eval": {"every": 5}, "train": {"epochs": 2, "batch_size": 16}}  # 7 steps an epoch
    with pytest.raises(UserError, match=r"steps_per_execution 6: at most 5 steps lie between .*: give 5 or less"):
        make_run(tiny.run_config(tiny_model, tiny_data, tmp_path / "run", **own, runtime=several(6)))
    make_run(tiny.run_config(tiny_model, tiny_data, tmp_path / "run", **own, runtime=several(5)))


@pytest.mark.parametrize(
    ("sections", "rows", "steps"),
    [
        (HEAD, 160, {8, 1}),
        (HEAD | {"train": {"epochs": 2, "batch_size": 16, "micro_batches": 2}, "mesh": {"data": 2}}, 160, {8, 1}),
        (HEAD, 100, {1}),
        (HEAD | {"distill": {"cache": "off"}}, 160, {1}),
        (HEAD | {"distill": {"cache": "auto"}}, 160, {8, 1}),
        (HEAD | {"train": {"epochs": 1, "batch_size": 16}}, 160, {1}),
        ({"model": tiny.NO_DROPOUT}, 160, {1}),
    ],
    ids=["head", "devices", "short epochs", "teacher in every step", "teacher once", "one epoch", "full"],
)
def test_the_default_is_several_steps_for_a_head_alone(tiny_model, classifier, tmp_path, made, sections, rows, steps):
    if "distill" in sections:
        sections = sections | {"distill": {"teacher": str(classifier), **sections["distill"]}}
    train(heads(tiny_model, tmp_path, "run", rows, **sections))
    assert set(made) == steps


def test_the_default_is_one_step_if_batches_are_large(tiny_model, tmp_path, made, monkeypatch):
    monkeypatch.setattr(batch_feed, "BATCH_BYTES", 10_000)
    train(heads(tiny_model, tmp_path, "run", 160, **HEAD))
    assert set(made) == {1}


def heads(model, folder, name, rows, /, **sections):
    """Two epochs without validation data."""
    tiny.write_rows(folder / "train.csv", rows)
    own = {"data": {"train": str(folder / "train.csv"), "validation": None}, "train": {"epochs": 2, "batch_size": 16}}
    return tiny.run_config(model, folder, folder / name, **own | sections, runtime=several(None))


def test_a_run_of_a_head_resumes_exactly(tiny_model, tmp_path, made):
    own = {"checkpoint": {"every": 9, "keep": 9}, "log": {"every": 1, "progress": False}}
    whole, half = (heads(tiny_model, tmp_path, name, 160, **HEAD, **own) for name in ("whole", "half"))
    train(whole)
    copy_run_at(9, tmp_path / "whole", tmp_path / "half")
    made.clear()
    train(half)
    assert made == [1, 8, 1, 1]  # to the end of the first epoch, to the next checkpoint, and to the end
    assert (tmp_path / "half" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()
    assert journal(tmp_path / "half") == journal(tmp_path / "whole")


def test_the_longest_time_between_events_of_a_very_long_run():
    assert Calendar(10**12, 4, 7, 10**6, (3, 50)).longest == 4
    assert Calendar(10**12, 10**11, None, 10**11).longest == 10**11
    assert Calendar(10**12, 3, 2, 10**6, (1,)).longest == 2


def test_a_shape_of_an_epoch_that_was_not_sampled_is_compiled_when_due(tiny_model, tmp_path, monkeypatch, capsys):
    """Only some epochs of a very long run are sampled for shapes."""
    tiny.write_rows(tmp_path / "train.csv", 37)
    tiny.write_rows(tmp_path / "dev.csv", 5)
    monkeypatch.setattr(batch_sampler, "SAMPLED_EPOCHS", (1, 1))
    settings = {"model": tiny.NO_DROPOUT, "train": {"epochs": 8, "batch_size": 4}, "eval": {"every": "end"}}
    train(tiny.run_config(tiny_model, tmp_path, tmp_path / "run", plan={"preset": "head"}, log={"every": 1}, **settings))
    assert len(journal(tmp_path / "run")) >= 80
    assert capsys.readouterr().err.count("compiled train step") > 1  # of which data.shapes allows one beforehand
