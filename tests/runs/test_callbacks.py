"""Callbacks of the user, which the config names as module:name, or which are given as objects."""

import json
from dataclasses import replace

import numpy as np
import pytest

import jaxft
from jaxft.config import cli
from jaxft.core.errors import CallbackError, UserError
from jaxft.train import train
from jaxft.training.callbacks import load_callbacks
from tests.support import read_jsonl, tiny
from tests.support.resuming import MODEL, copy_run_at, journal, short_config

MODULE = """
import json

from jaxft import Callback


class Events(Callback):
    def on_start(self, run):
        assert self.run is run
        self.path = run.directory / "events.json"
        self.events = [["start", run.start_step, run.steps_per_epoch]]

    def on_step(self, step):
        self.events.append(["step", step.number, step.loss, step.speed is not None])

    def on_log(self, row):
        self.events.append(["log", row["step"], "eval/accuracy" in row])

    def on_evaluation(self, evaluation):
        self.events.append(["evaluation", evaluation.step, evaluation.scores["accuracy"], evaluation.best])

    def on_checkpoint(self, checkpoint):
        self.events.append(["checkpoint", checkpoint.step, int(checkpoint.state.step), checkpoint.progress.best_step])

    def on_end(self, end):
        self.events.append(["end", end.step, end.selected_step, end.results["eval/accuracy"]])

    def close(self):
        self.path.write_text(json.dumps(self.events))


class Sized(Callback):
    def __init__(self, size):
        self.size = size


sized = Sized(3)
number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a module of callbacks."""
    (tmp_path / "events_of_a_run.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_callback_sees_every_event_in_order(tiny_model, tiny_data, folder):
    config = tiny.run_config(
        tiny_model,
        tiny_data,
        folder / "run",
        model=tiny.NO_DROPOUT,
        plan={"preset": "head"},
        train={"max_steps": 4, "callbacks": ["events_of_a_run:Events"]},
        eval={"every": 2},
        checkpoint={"every": 3},
    )
    results = train(config)
    events = json.loads((folder / "run/events.json").read_text())
    names = [(name, step) for name, step, *_ in events]
    best = [x for x in events if x[0] == "evaluation" and x[3]]
    expected = [("start", 0), ("step", 1), ("step", 2), ("log", 2), ("log", 2), ("evaluation", 2), ("checkpoint", 2)]
    expected += [("step", 3), ("checkpoint", 3), ("step", 4), ("log", 4), ("log", 4), ("evaluation", 4), ("checkpoint", 4)]
    assert names == [*expected, ("log", 4), ("end", 4)]
    rows = read_jsonl(folder / "run/metrics.jsonl")
    logged = {row["step"]: row["loss"] for row in rows if "loss" in row}
    assert {x[1]: float(f"{x[2]:.7g}") for x in events if x[0] == "step" and x[3]} == logged
    assert all(x[1] == x[2] and x[3] == max(b[1] for b in best if b[1] <= x[1]) for x in events if x[0] == "checkpoint")
    assert events[-1] == ["end", 4, best[-1][1], results["eval/accuracy"]]


@pytest.mark.parametrize(
    ("reference", "wrong"),
    [
        ("Events", "must be module:name, such as my_module:MyCallback"),
        ("no_such_module:Events", "there is no module no_such_module in the working directory or on the Python path"),
        ("jaxft.no_such:Events", "there is no module jaxft.no_such in the working"),
        ("events_of_a_run:Event", 'events_of_a_run has no Event; did you mean "Events"'),
        ("events_of_a_run:Callbacks", "events_of_a_run has no Callbacks"),
        ("events_of_a_run:number", "is not a subclass of jaxft.Callback"),
        ("events_of_a_run:Sized", "cannot be made without arguments: Sized.__init__() missing 1 required"),
        ("broken:Events", "broken cannot be imported: ModuleNotFoundError: No module named 'lost'"),
    ],
)
def test_a_wrong_name_is_refused_in_one_line(folder, reference, wrong):
    (folder / "broken.py").write_text("import lost\n")
    config = cli.parse({}, [], origin="test")
    config = replace(config, train=replace(config.train, callbacks=[reference]))
    with pytest.raises(UserError) as found:
        load_callbacks(config)
    assert str(found.value).startswith(f"train.callbacks {reference}: {wrong}")


def test_names_and_objects_are_callbacks(folder):
    config = cli.parse({"train": {"callbacks": ["events_of_a_run:sized"]}}, [], origin="test")
    assert vars(load_callbacks(config)[0])["size"] == 3
    for wrong, why in (
        (jaxft.Callback, "Callback is a class: give an object, Callback"),
        (3, "3 is not an object of a sub"),
    ):
        with pytest.raises(UserError, match=f"callbacks: {why}"):
            train(config, callbacks=[wrong])


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("callbacks") / "start", num_hidden_layers=1)


def configured(start, tiny_data, output, **sections):
    """A run of 7 steps with checkpoints at 3, 6 and 7 and evaluations at 4 and 7; each step is a call of the program."""
    defaults = {
        "data": {"max_eval_examples": 16},
        "plan": {"preset": "head"},
        "optim": {"learning_rate": 3e-2, "schedule": "constant", "warmup": 0},
        "eval": {"every": 4},
        "checkpoint": {"every": 3, "keep": 9, "select": "last"},
        "runtime": {"distributed": "off", "unroll": 1, "steps_per_execution": 1},
    }
    return short_config(start, tiny_data, output, **{**defaults, **sections})


class Interrupt(jaxft.Callback):
    """Ends a run after a step."""

    def __init__(self, step):
        self.step = step

    def on_step(self, step):
        if step.number == self.step:
            raise ValueError("enough")


class Scale(jaxft.Callback):
    """Halves the learning rate after two steps, by its own count, and again after the evaluation of step 4."""

    def __init__(self):
        self.seen = 0

    def state(self):
        return {"seen": self.seen}

    def restore(self, state):
        self.seen = state["seen"]

    def on_step(self, step):
        self.seen += 1
        if self.seen == 2:
            self.run.scale_learning_rate(0.5)

    def on_evaluation(self, evaluation):
        if evaluation.step == 4:
            self.run.scale_learning_rate(0.25)


def test_a_scaled_learning_rate_is_used_logged_and_resumed_exactly(start, tiny_data, tmp_path):
    """Step 3 is on the device when step 2 is read; it has the old rate also if the run is interrupted in between."""
    train(configured(start, tiny_data, tmp_path / "whole"), callbacks=[Scale()])
    train(configured(start, tiny_data, tmp_path / "plain"))
    whole, plain = (journal(tmp_path / name) for name in ("whole", "plain"))
    rates = [row["learning_rate"] for row in whole if "learning_rate" in row]
    np.testing.assert_allclose(rates, 3e-2 * np.array([1, 1, 1, 0.5, 0.25, 0.25, 0.25]), rtol=1e-6)
    losses = [[row["loss"] for row in rows if "loss" in row] for rows in (whole, plain)]
    assert losses[0][:4] == losses[1][:4]  # the loss of step 5 is the first that step 4 has changed
    assert losses[0][4] != losses[1][4]
    copy_run_at(3, tmp_path / "whole", tmp_path / "half")
    with pytest.raises(CallbackError, match=r"Interrupt.on_step failed at step 1: ValueError: enough; step 2 is saved"):
        train(configured(start, tiny_data, tmp_path / "failed"), callbacks=[Interrupt(1), Scale()])
    for name in ("half", "failed"):
        train(configured(start, tiny_data, tmp_path / name), callbacks=[Scale()])
        assert (tmp_path / name / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()
        assert journal(tmp_path / name) == whole


class Stop(jaxft.Callback):
    def __init__(self, event, number):
        self.event, self.number, self.ended = event, number, None

    def on_step(self, step):
        if (self.event, self.number) == ("step", step.number):
            self.run.stop()

    def on_evaluation(self, evaluation):
        if (self.event, self.number) == ("evaluation", evaluation.step):
            self.run.stop()

    def on_end(self, end):
        self.ended = end.step


@pytest.mark.parametrize(("event", "number", "last"), [("step", 1, 2), ("evaluation", 4, 4)])
def test_a_callback_stops_a_run_with_an_evaluation_and_a_checkpoint(start, tiny_data, tmp_path, capsys, event, number, last):
    stop = Stop(event, number)
    results = train(configured(start, tiny_data, tmp_path / "run"), callbacks=[stop])
    assert stop.ended == last
    assert f"stopped early at step {last}: a callback asked for it\n" in capsys.readouterr().err
    evaluated = [row["step"] for row in read_jsonl(tmp_path / "run/metrics.jsonl") if "eval/loss" in row]
    assert evaluated == [last, last]  # the second is the row of the end
    assert train(configured(start, tiny_data, tmp_path / "run")) == results  # a stopped run does not go on


class Wrong(jaxft.Callback):
    """Evaluates a text in an event."""

    def __init__(self, event, text):
        setattr(self, event, lambda *_: eval(text, {"self": self}))


@pytest.mark.parametrize(
    ("event", "text", "wrong", "saved"),
    [
        ("on_start", "1 / 0", "on_start failed: ZeroDivisionError: division by zero; nothing is trained yet", None),
        (
            "on_start",
            "self.run.stop()",
            r"UserError: stop\(\): may be called in on_step, on_log and on_evaluation only",
            None,
        ),
        ("on_step", "self.run.scale_learning_rate(-1)", r"at step 1: UserError: scale_learning_rate\(-1\): must be", 2),
        ("on_evaluation", "self.run.scale_learning_rate(1e39)", r"\(1e\+39\): must be a finite number in float32", 4),
        ("on_log", "1 / 0", "on_log failed at step 1: Zero.*step 2 is saved in .*, where the same run resumes", 2),
        ("on_evaluation", "1 / 0", "on_evaluation failed at step 4: Zero.*; step 4 is saved", 4),
        ("on_checkpoint", "1 / 0", "on_checkpoint failed at step 3: Zero.*; step 3 is saved", 3),
        ("on_end", "1 / 0", "on_end failed at step 7: Zero.*; all steps are saved", 7),
        ("state", "{1: self}", "state failed, so its state is not in the checkpoint: UserError: .*; step 3 is saved", 3),
        ("close", "1 / 0", "close failed: Zero.*; all else is done", 7),
    ],
)
def test_a_run_is_saved_before_a_failure_is_reported(start, tiny_data, tmp_path, event, text, wrong, saved):
    with pytest.raises(CallbackError, match=f"callback Wrong.*{wrong}") as found:
        train(configured(start, tiny_data, tmp_path / "run"), callbacks=[Wrong(event, text)])
    assert found.value.__cause__ is not None
    folder = tmp_path / "run/checkpoints"
    steps = [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
    assert max(steps, default=None) == saved
    assert max((row["step"] for row in read_jsonl(tmp_path / "run/metrics.jsonl")), default=None) == saved


def test_the_command_shows_the_users_file(start, tiny_data, folder, capsys):
    (folder / "fails.py").write_text("import jaxft\nclass Fails(jaxft.Callback):\n    def on_step(self, step): 1 / 0\n")
    own = {"epochs": 1, "batch_size": 16, "callbacks": ["fails:Fails"]}
    config = configured(start, tiny_data, folder / "run", train=own)
    with pytest.raises(SystemExit):
        cli.run_main(lambda _: train(config), [])
    error = capsys.readouterr().err
    assert "error: callback Fails.on_step failed at step 1: ZeroDivisionError: division by zero; step 2 is saved in" in error
    assert f'File "{folder}/fails.py", line 3, in on_step' in error
