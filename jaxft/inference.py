"""A fine-tuned model opened for evaluation and prediction."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxft import rundir, sharding
from jaxft.compiled import abstract_batches
from jaxft.config import Config
from jaxft.data.encode import load_tokenizer
from jaxft.errors import UserError
from jaxft.evaluation import make_evaluator, run_plan
from jaxft.models.build import load
from jaxft.models.families import family_of, kind_of
from jaxft.models.files import read_config
from jaxft.models.model import Model
from jaxft.models.source import resolve
from jaxft.setup import check_lengths, eval_planner, make_loss
from jaxft.tasks import TASKS, task_class
from jaxft.tasks.task import Split, Summary, Task
from jaxft.tree import Params


@dataclass(frozen=True)
class Opened:
    """A model, its tokenizer and its task on a mesh."""

    config: Config
    model: Model
    params: Params
    tokenizer: Any
    task: Task
    mesh: jax.sharding.Mesh

    @property
    def directory(self) -> Path:
        """The model directory."""
        assert self.model.directory is not None
        return self.model.directory

    def encode(self, rows: Any, split: str, *, labelled: bool = True) -> Split:
        """Rows of a split as examples."""
        origin = str(getattr(self.config.data, split))
        return self.task.encode(rows, self.tokenizer, self.directory, self.config, origin, labelled=labelled)


def base_config(path: str) -> Config:
    """The config of RUN_OR_MODEL_DIR: the run's own, or the defaults for a model directory."""
    return rundir.read_config(Path(path)) if rundir.is_run(Path(path)) else Config()


def with_task(path: str, config: Config) -> Config:
    """The config with the task that RUN_OR_MODEL_DIR was fine-tuned for.

    Raises:
      UserError: when it is no fine-tuned model of a task.
    """
    directory = resolve(rundir.model_directory(path), config.model.revision)
    hf_config = read_config(directory)
    kind = kind_of(family_of(hf_config, str(directory / "config.json")), hf_config)
    if kind not in TASKS:
        raise UserError(
            f"{path}: is a {kind or 'feature-extraction'} model without the head of a task; fine-tune it first with "
            "python -m jaxft.train"
        )
    return replace(config, task=replace(config.task, name=kind))


def open_model(path: str, config: Config) -> Opened:
    """Open RUN_OR_MODEL_DIR with a config from `with_task`."""
    model, params = load(
        rundir.model_directory(path),
        revision=config.model.revision,
        dtype=config.train.dtype,
        unroll=config.runtime.unroll,
    )
    assert model.directory is not None
    tokenizer = load_tokenizer(model.directory)
    check_lengths(model, tokenizer, config.data.max_length)
    mesh = sharding.make_mesh(replace(config.mesh, data=-1, fsdp=1))
    params = sharding.place(params, sharding.param_shardings(mesh, params))
    task = task_class(config).restore(config, model.hf_config).with_tokenizer(tokenizer, model.directory)
    return Opened(config, model, params, tokenizer, task, mesh)


def read(config: Config, split: str, *, labelled: bool = True) -> Any:
    """The rows of a split; without labels for prediction."""
    return task_class(config).read(config, split, labelled=labelled)


def evaluate(opened: Opened, rows: Any, split: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Metrics of the labelled rows of a split."""
    data = opened.encode(rows, split)
    planner = eval_planner(data.examples, opened.config, opened.mesh)
    loss = make_loss(opened.model, opened.task)
    return make_evaluator(opened.task, loss, data, planner, opened.params, {}, opened.mesh, say).scores(opened.params, {})


def predict(opened: Opened, rows: Any, split: str) -> Iterator[dict[str, Any]]:
    """A prediction for every row of a split, in their order."""
    data = opened.encode(rows, split, labelled=False)
    planner = eval_planner(data.examples, opened.config, opened.mesh)
    step = jax.jit(partial(_predict, model=opened.model, task=opened.task), out_shardings=sharding.replicated(opened.mesh))
    place = sharding.batch_sharding(opened.mesh)
    compiled = {
        shape: step.lower(opened.params, batch).compile()
        for shape, batch in abstract_batches(planner, data.examples, place).items()
    }
    plan = planner.plan_epoch(0)
    found = run_plan(plan, data.examples, opened.mesh, lambda shape, batch: compiled[shape](opened.params, batch))
    return opened.task.decode(found, data)


def _predict(params: Params, batch: dict[str, jax.Array], *, model: Model, task: Task) -> Summary:
    micro = {name: x[0] for name, x in task.prepare(batch, None).items()}
    return task.predict(model.apply(params, micro), micro)
