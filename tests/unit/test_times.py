"""The times of a run over several starts, on a clock that the test sets."""

import json

import pytest

from jaxft.core.phases import COMPILING, EVALUATING, TRAINING, Clock
from jaxft.training.callbacks import Checkpoint
from jaxft.training.early_stopping import EvaluationState
from jaxft.training.times import Times

STATE: object = None


class Start:
    """A start of a run in a directory, at a step."""

    def __init__(self, directory, step: int, said: list[str] | None = None) -> None:
        self.now = 0.0
        self.clock = Clock(lambda: self.now)
        self.times = Times(directory, step, self.clock, (said if said is not None else []).append)

    def spend(self, **seconds: float) -> "Start":
        for phase, x in seconds.items():
            with self.clock.during(phase):
                self.now += x
        return self

    def save(self, step: int) -> None:
        self.times.on_checkpoint(Checkpoint(step, STATE, EvaluationState()))  # type: ignore[arg-type]


def entry(times: Times) -> tuple[dict[str, float], float]:
    found = times.record().entry()
    return {name: x for name, x in found["time"].items() if x}, found["goodput"]


def test_starts_add_up_and_steps_done_again_do_not_count(tmp_path):
    """20 s of training are saved at step 10, 7 s more are lost when the run is killed, and 13 s end it."""
    first = Start(tmp_path, 0).spend(compiling=10, training=20)
    first.save(10)
    first.spend(training=7)
    first.times.on_log({})  # within ten seconds of the last writing, by the real clock
    assert json.loads((tmp_path / "times.json").read_text())["phases"]["training"] == 20
    first.times.close()
    second = Start(tmp_path, 10).spend(compiling=3, training=13, evaluating=7)
    assert entry(second.times) == ({COMPILING: 13, TRAINING: 40, EVALUATING: 7}, pytest.approx(33 / 60))
    assert second.times.line() == "time in 2 starts: training 40.0 s, compiling 13.0 s, evaluating 7.0 s; goodput 55%"


def test_all_is_lost_without_a_checkpoint(tmp_path):
    Start(tmp_path, 0).spend(training=30).times.close()
    second = Start(tmp_path, 0).spend(training=10)
    assert entry(second.times) == ({TRAINING: 40}, 0.25)


def test_a_checkpoint_before_the_latest_is_known_too(tmp_path):
    """The latest one is damaged: the run goes back to step 10, and from there on step 20 is another."""
    first = Start(tmp_path, 0)
    for step in (10, 20):
        first.spend(training=10).save(step)
    second = Start(tmp_path, 10).spend(training=5)
    assert entry(second.times) == ({TRAINING: 25}, pytest.approx(15 / 25))
    second.times.close()
    assert Start(tmp_path, 20).times.record().counted == 10


def test_a_run_that_has_ended_keeps_its_times(tmp_path):
    first = Start(tmp_path, 0).spend(training=10, compiling=10)
    first.save(5)
    final = first.times.final(5)
    assert final["goodput"] == 0.5
    first.spend(saving=5).times.close()  # of the model, after the final row
    before = (tmp_path / "times.json").read_bytes()
    again = Start(tmp_path, 5).spend(evaluating=100)
    assert again.times.final(5) == final
    again.times.close()
    assert (tmp_path / "times.json").read_bytes() == before
    assert again.times.line().endswith("saving 5.0 s; goodput 40%")
    gone_back = Start(tmp_path, 0).spend(training=5)  # its checkpoints were deleted
    assert gone_back.times.final(5)["time"]["training"] == 15


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        '{"phases": {"resting": 1}}',
        '{"counted": NaN}',
        '{"counted": -1}',
        '{"counted": "1"}',
        '{"saved": {"x": 1}}',
        '{"saved": 3}',
        '{"other": 1}',
        '{"final": {"step": 3}}',
        '{"final": {"step": 3, "entry": {"time": 5, "goodput": 1}}}',
        '{"final": {"step": 3, "entry": {"time": {"training": 1}, "goodput": "x"}}}',
        '{"counted": 1' + "0" * 400 + "}",
        "[" * 10**5,
    ],
)
def test_a_damaged_file_is_said_and_does_not_matter(tmp_path, text):
    (tmp_path / "times.json").write_text(text)
    said: list[str] = []
    start = Start(tmp_path, 3, said).spend(training=1)
    assert entry(start.times) == ({TRAINING: 1}, 1.0)
    assert said == [f"{tmp_path}/times.json: is damaged, so the times of earlier starts are not known"]
