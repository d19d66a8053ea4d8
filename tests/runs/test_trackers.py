"""What the trackers' real packages record offline of a run that is resumed: one run, without a gap or a doubled row."""

import importlib.util
import json
import subprocess
import sys

import pytest

from tests.support import tracked, wandb_files

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # the warnings of the packages are theirs
ROWS = tracked.rows_after(0, 6)
SCORES = {"final/eval/accuracy": 0.75, "final/test/accuracy": 0.5, "final/selected_step": 4}


def needs(*packages: str):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"not installed: {', '.join(missing)} (pip install 'jaxft[{packages[0]}]')"
    )


def numbers(row: dict) -> dict:
    return {name: x for name, x in row.items() if isinstance(x, int | float)}


@needs("wandb")
def test_wandb_has_one_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    assert tracked.stopped_and_resumed(tmp_path / "mine", "wandb", project="poems") == []
    found = wandb_files.read_runs(tmp_path / "mine")
    assert len(set(found.ids)) == 1
    assert (set(found.names), set(found.projects)) == ({"mine"}, {"poems"})
    assert found.rows == [numbers(row) for row in ROWS]
    assert SCORES.items() <= found.summary.items()
    assert found.config["train.batch_size"] == 16
    assert (found.summary["status"], found.exits) == ("finished", [1, 0])


@needs("mlflow", "sqlalchemy", "alembic")
def test_mlflow_has_one_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    assert tracked.stopped_and_resumed(tmp_path / "mine", "mlflow", project="poems", run_name="first") == []
    from mlflow import MlflowClient

    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("poems").experiment_id])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    assert run.data.params["train.batch_size"] == "16"
    for name in ("loss", "learning_rate", "eval/accuracy"):
        points = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        assert points == [(row["step"], row[name]) for row in ROWS if name in row]
    assert SCORES.items() <= run.data.metrics.items()


WRITE_TRACKIO = """
import sys
from pathlib import Path
from tests.support import tracked
print(tracked.stopped_and_resumed(Path(sys.argv[1]), "trackio", project="poems"))
"""
READ_TRACKIO = """
import json, trackio
from trackio.sqlite_storage import SQLiteStorage
(run,) = trackio.Api().runs("poems")
config, logs = SQLiteStorage.get_run_config("poems", run.name), SQLiteStorage.get_logs("poems", run.name)
print(json.dumps([run.name, config, logs]))
"""


@needs("trackio")
def test_trackio_has_one_run(tmp_path, monkeypatch):
    """In processes of their own: trackio reads the name of its folder once."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))

    def python(*arguments: str) -> str:
        return subprocess.run([sys.executable, "-c", *arguments], capture_output=True, text=True, check=True).stdout

    assert python(WRITE_TRACKIO, str(tmp_path / "mine")) == "[]\n"
    name, config, logged = json.loads(python(READ_TRACKIO).splitlines()[-1])
    assert name.startswith("mine-")
    assert config["train.batch_size"] == 16
    found = [{key: x for key, x in row.items() if key != "timestamp"} for row in logged]
    assert [row for row in found if "epoch" in row] == [numbers(row) for row in ROWS]
    assert [row for row in found if "epoch" not in row] == [
        {"step": 4, "status": "failed"},
        {"step": 6, **SCORES},
        {"step": 6, "status": "finished"},
    ]
