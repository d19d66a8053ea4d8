"""Callbacks of the user, which the config names as module:name."""

import json
from dataclasses import replace

import pytest

from jaxft.config import cli
from jaxft.core.errors import UserError
from jaxft.train import train
from jaxft.training.callbacks import load_callbacks
from tests.support import read_jsonl, tiny

MODULE = """
import json

from jaxft.training.callbacks import Callback


class Events(Callback):
    def __init__(self, run, directory):
        self.total, self.path, self.events = run.total_steps, directory / "events.json", []

    def on_step(self, step):
        self.events.append(["step", step.number, step.loss, step.speed is not None])

    def on_evaluation(self, evaluation):
        self.events.append(["evaluation", evaluation.step, evaluation.scores["accuracy"], evaluation.best])

    def on_checkpoint(self, checkpoint):
        self.events.append(["checkpoint", checkpoint.step, int(checkpoint.state.step), checkpoint.progress.best_step])

    def on_end(self, end):
        self.events.append(["end", end.step, end.selected_step, end.results["eval/accuracy"]])

    def close(self):
        self.path.write_text(json.dumps(self.events))


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
    expected = [("step", 1), ("step", 2), ("evaluation", 2), ("checkpoint", 2), ("step", 3), ("checkpoint", 3)]
    assert names == [*expected, ("step", 4), ("evaluation", 4), ("checkpoint", 4), ("end", 4)]
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
        ("broken:Events", "broken cannot be imported: ModuleNotFoundError: No module named 'lost'"),
    ],
)
def test_a_wrong_name_is_refused_in_one_line(folder, reference, wrong):
    (folder / "broken.py").write_text("import lost\n")
    config = cli.parse({}, [], origin="test", prog="test")
    config = replace(config, train=replace(config.train, callbacks=[reference]))
    with pytest.raises(UserError) as found:
        load_callbacks(config)
    assert str(found.value).startswith(f"train.callbacks {reference}: {wrong}")
