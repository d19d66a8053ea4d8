"""Stand-ins for the packages wandb, mlflow and trackio, with the signatures that jaxft calls; they record what they get."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class Store:
    """What a service has got.

    Attributes:
      runs: the config, rows (step, numbers), final numbers and states of each run by its id.
      broken: the names of calls that fail.
    """

    def __init__(self) -> None:
        self.runs: dict[str, SimpleNamespace] = {}
        self.broken: set[str] = set()
        self.before_send: Any = lambda: None

    def begin(self, key: str, name: str | None, config: Any = None) -> SimpleNamespace:
        if "open" in self.broken:
            raise ConnectionError("no route to the service")
        run = self.runs.setdefault(key, SimpleNamespace(name=name, config={}, rows=[], final={}, states=[]))
        run.config = run.config | dict(config or {})
        run.states.append("running")
        return run

    def add(self, key: str, step: int, values: dict[str, Any]) -> None:
        self.before_send()
        if "send" in self.broken:
            raise ConnectionError("the service\nis gone")
        run = self.runs[key]
        if any(name.startswith("final/") for name in values):
            run.final |= values
        elif "status" in values:
            run.states.append(values["status"])
        else:
            run.rows.append((step, values))


def install(name: str, patch: pytest.MonkeyPatch) -> Store:
    """Put a stand-in in the place of a package for the length of a test."""
    store = Store()
    modules = {"wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}[name](store)
    for path, content in modules.items():
        module = ModuleType(path)
        module.__spec__ = ModuleSpec(path, None)
        vars(module).update(content)
        patch.setitem(sys.modules, path, module)
    return store


def _wandb(store: Store) -> dict[str, dict[str, Any]]:
    def init(*, project=None, dir=None, id=None, name=None, config=None, reinit=None, resume=None):
        assert (resume, reinit) == ("allow", "create_new")
        run = store.begin(id, name, config)
        steps = {}

        def log(data, step=None, commit=None):
            assert step is None  # or rows would be dropped
            store.add(id, data["step"], {name: x for name, x in data.items() if name != "step"})

        def finish(exit_code=None):
            assert exit_code == (run.final.pop("status") != "finished") or store.broken
            run.states.append("failed" if exit_code else "finished")

        def define_metric(name, step_metric=None, step_sync=None, hidden=None, summary=None, overwrite=None):
            steps[name] = step_metric

        return SimpleNamespace(id=id, log=log, finish=finish, summary=run.final, define_metric=define_metric)

    return {"wandb": {"init": init}}


def _mlflow(store: Store) -> dict[str, dict[str, Any]]:
    experiments: dict[str, str] = {}

    class MlflowClient:
        def __init__(self, tracking_uri=None, registry_uri=None):
            pass

        def get_experiment_by_name(self, name):
            return SimpleNamespace(experiment_id=experiments[name]) if name in experiments else None

        def create_experiment(self, name, artifact_location=None, tags=None):
            return experiments.setdefault(name, str(len(experiments)))

        def create_run(self, experiment_id, start_time=None, tags=None, run_name=None):
            key = f"{experiment_id}/{len(store.runs)}"
            store.begin(key, run_name)
            return SimpleNamespace(info=SimpleNamespace(run_id=key))

        def update_run(self, run_id, status=None, name=None):
            assert status == "RUNNING"
            store.begin(run_id, name)

        def log_batch(self, run_id, metrics=(), params=(), tags=(), synchronous=None):
            assert len(metrics) + len(params) <= 100
            store.runs[run_id].config |= {x.key: x.value for x in params}
            for step in {x.step for x in metrics}:
                store.add(run_id, step, {x.key: x.value for x in metrics if x.step == step})

        def set_terminated(self, run_id, status=None, end_time=None):
            store.runs[run_id].states.append({"FINISHED": "finished", "FAILED": "failed", "KILLED": "interrupted"}[status])

    def metric(key, value, timestamp, step):
        return SimpleNamespace(key=key, value=value, timestamp=timestamp, step=step)

    entities = {"Metric": metric, "Param": lambda key, value: SimpleNamespace(key=key, value=value)}
    return {"mlflow": {"MlflowClient": MlflowClient}, "mlflow.entities": entities}


def _trackio(store: Store) -> dict[str, dict[str, Any]]:
    def init(project, name=None, group=None, config=None, resume="never"):
        assert resume == "allow"
        print("* Trackio project initialized")
        store.begin(name, name, config)
        return SimpleNamespace(log=lambda metrics, step=None: store.add(name, step, dict(metrics)))

    return {"trackio": {"init": init, "finish": lambda: print("* Run finished")}}
