"""Trackers get the config, the rows and the end of a run; a resumed run is the same one; their failures stop nothing."""

import sys
import threading

import pytest

from jaxft.core.errors import UserError
from jaxft.core.signals import Stopped
from jaxft.train import train
from jaxft.training import tracker
from tests.support import fake_trackers, tiny, tracked

SERVICES = ["wandb", "mlflow", "trackio"]
FINAL = {"final/selected_step": 4, "final/eval/accuracy": 0.75, "final/test/accuracy": 0.5}


def numbers(row: dict) -> tuple[int, dict]:
    return row["step"], {name: x for name, x in row.items() if isinstance(x, int | float) and name != "step"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_resumed_run_is_one_run_without_gap_or_doubled_rows(name, tmp_path, monkeypatch, capfd):
    store = fake_trackers.install(name, monkeypatch)
    assert tracked.stopped_and_resumed(tmp_path / "mine", name, project="poems") == []
    (run,) = store.runs.values()
    assert run.name.startswith("mine")
    assert str(run.config["train.batch_size"]) == "16"
    assert run.rows == [numbers(row) for row in tracked.rows_after(0, 6)]
    assert run.final == FINAL
    assert run.states == ["running", "failed", "running", "finished"]
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", SERVICES)
def test_a_signal_interrupts_and_a_run_that_ended_sends_nothing_twice(name, tmp_path, monkeypatch):
    store = fake_trackers.install(name, monkeypatch)
    tracked.Session(tmp_path, 0, name).log(*tracked.rows_after(0, 6)).end(Stopped(15, "stopped"))
    (run,) = store.runs.values()
    assert run.states[-1] == ("failed" if name == "wandb" else "interrupted")  # wandb has no such state
    for _ in range(2):
        tracked.Session(tmp_path, 6, name).log(tracked.FINAL).end()
    assert (len(run.rows), len(store.runs)) == (9, 1)


def test_a_run_that_is_tracked_from_its_middle_on_gets_its_first_rows(tmp_path, monkeypatch):
    store = fake_trackers.install("wandb", monkeypatch)
    tracked.Session(tmp_path, 4, "wandb").log(*tracked.rows_after(4, 6)).end()
    (run,) = store.runs.values()
    assert run.rows == [numbers(row) for row in tracked.rows_after(0, 6)]


def test_runs_of_one_name_are_separate(tmp_path, monkeypatch):
    store = fake_trackers.install("trackio", monkeypatch)
    for folder in ("one", "two", "one"):
        tracked.Session(tmp_path / folder, 0, "trackio", run_name="mine").end()
    assert len(store.runs) == 2


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_cannot_be_opened_is_a_line(name, tmp_path, monkeypatch):
    store = fake_trackers.install(name, monkeypatch)
    store.broken = {"open"}
    (line,) = tracked.Session(tmp_path, 0, name).log(*tracked.rows_after(0, 6)).end()
    assert line == f"log.trackers {name}: gets no more of this run: ConnectionError: no route to the service"


def test_a_service_that_fails_is_a_line_once_and_gets_the_missing_rows_after_a_resume(tmp_path, monkeypatch):
    store = fake_trackers.install("mlflow", monkeypatch)
    session = tracked.Session(tmp_path, 0, "mlflow").log(*tracked.rows_after(0, 2))
    store.before_send = lambda: store.broken.update({"send"} if len(store.runs["0/0"].rows) == 2 else set())
    (line,) = session.log(*tracked.rows_after(2, 4)).end()
    assert line == "log.trackers mlflow: gets no more of this run: ConnectionError: the service is gone"
    store.before_send, store.broken = (lambda: None), set()
    assert tracked.Session(tmp_path, 4, "mlflow").log(*tracked.rows_after(4, 6)).end() == []
    assert store.runs["0/0"].rows == [numbers(row) for row in tracked.rows_after(0, 6)]


def test_training_does_not_wait_for_a_service(tmp_path, monkeypatch):
    store, answered = fake_trackers.install("wandb", monkeypatch), threading.Event()
    store.before_send = lambda: answered.wait(60)
    monkeypatch.setattr(tracker, "PATIENCE", 0.05)
    (line,) = tracked.Session(tmp_path, 0, "wandb").log(*tracked.rows_after(0, 6)).end()
    answered.set()
    assert "wandb" in line
    assert "not sent within" in line


def test_names_of_metrics_suit_mlflow(tmp_path, monkeypatch):
    store = fake_trackers.install("mlflow", monkeypatch)
    tracked.Session(tmp_path, 0, "mlflow").log({"step": 1, "eval/F1 (macro), 50%": 0.5}).end()
    assert store.runs["0/0"].rows == [(1, {"eval/F1 _macro__ 50_": 0.5})]


@pytest.mark.parametrize("name", SERVICES)
def test_a_missing_package_is_named_before_data_are_read(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    config = tiny.run_config("absent", tmp_path, tmp_path / "run", log={"trackers": [name]})
    with pytest.raises(UserError, match=rf"log.trackers names {name}, .*: pip install 'jaxft\[{name}\]'"):
        train(config)


def test_a_damaged_record_begins_a_new_run(tmp_path, monkeypatch):
    store = fake_trackers.install("wandb", monkeypatch)
    texts = (
        "",
        "[]",
        '{"id": "x"}',
        '{"id": null, "sent": {}}',
        '{"id": "x", "sent": 5}',
        '{"id": "x", "sent": {"step": 1e999}}',
    )
    for text in texts:
        (tmp_path / "trackers").mkdir(exist_ok=True)
        (tmp_path / "trackers/wandb.json").write_text(text)
        assert tracked.Session(tmp_path, 0, "wandb").end() == []
    assert len(store.runs) == len(texts)
