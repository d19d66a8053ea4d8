"""A tracker has the rows of metrics.jsonl, and how a run ended, of a run that fails and is resumed."""

import pytest

import jaxft
from jaxft.core.errors import CallbackError
from jaxft.train import train
from tests.support import fake_trackers
from tests.support.resuming import SPEED, journal, short_config


class Fails(jaxft.Callback):
    def on_step(self, step):
        if step.number == 4:
            raise RuntimeError("broken")


@pytest.mark.slow
def test_a_run_that_fails_and_is_resumed_is_one_run_of_the_tracker(tiny_model, tiny_data, tmp_path, monkeypatch):
    store = fake_trackers.install("wandb", monkeypatch)
    log = {"every": 1, "progress": False, "report": False, "trackers": ["wandb"]}
    config = short_config(tiny_model, tiny_data, tmp_path / "mine", log=log)
    with pytest.raises(CallbackError, match=r"Fails\.on_step failed at step 4"):
        train(config, callbacks=[Fails()])
    train(config)
    (run,) = store.runs.values()
    assert (run.name, run.states) == ("mine", ["running", "failed", "running", "finished"])
    rows = [{"step": step, **{name: x for name, x in row.items() if name not in SPEED}} for step, row in run.rows]
    expected = journal(tmp_path / "mine")
    assert [row["step"] for row in rows] == [row["step"] for row in expected] == [1, 2, 3, 4, 5, 6, 7]
    for row, wanted in zip(rows, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-6)  # metrics.jsonl rounds to seven digits
