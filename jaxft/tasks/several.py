"""Several tasks as one: one pass of the encoder, a head for each task, and the weighted sum of their mean losses.

Each task sees the batch through a view: its own columns under their plain names, weights that are 0 for the examples of
other tasks, and the outputs of its own head. So a row may hold examples of several tasks, and every task is computed as if
it were alone in the step.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

import jax
import jax.numpy as jnp

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.tree import Params
from jaxft.data.batching.collect import Summary
from jaxft.losses import OutputPair, WeightedSum, with_weight
from jaxft.models.model import Model
from jaxft.tasks.several_splits import TASK, SeveralSplits
from jaxft.tasks.task import Array, Batch, Outputs, Split, Task
from jaxft.tasks.texts_of_tasks import among_all, own_texts, without_empty

WEIGHTS = "weights_of_tasks"  # float32 [K, tasks]: the weight of each task's loss in the whole step
SCORE = "score"  # the mean of the tasks' main metrics


@dataclass(frozen=True)
class SeveralTasks(Task):
    """Tasks by name; `several_tasks` makes one.

    Attributes:
      tasks: with their labels, in the order of their numbers.
      weights: what the mean loss of each is multiplied by.
      groups: how many texts an example of each has, in a run with its data (see `texts_of_tasks`).
    """

    tasks: Mapping[str, Task]
    weights: Mapping[str, float]
    groups: Mapping[str, int]

    kind: ClassVar[str] = "several tasks"
    metrics: ClassVar[Mapping[str, bool]] = {SCORE: True, "loss": False}
    names_labels: ClassVar[bool] = False

    @classmethod
    def learn(cls, config: Config, hf_config: Mapping[str, Any], rows: Any, origin: str) -> NoReturn:
        """Each task learns from its own rows."""
        _refuse("learn")

    @classmethod
    def restore(cls, config: Config, hf_config: Mapping[str, Any]) -> NoReturn:
        """Each task has a config.json of its own."""
        _refuse("restore")

    @classmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> NoReturn:
        """Each task has files of its own."""
        _refuse("read")

    def encode(
        self, rows: Any, tokenizer: Any, directory: Path, config: Config, origin: str, *, labelled: bool = True
    ) -> NoReturn:
        """Each task encodes its own rows; `several_splits.combine` joins the results."""
        _refuse("encode")

    @property
    def config_fields(self) -> Mapping[str, Any]:
        """Those of each task, by its name."""
        return {name: task.config_fields for name, task in self.tasks.items()}

    def view(self, batch: Batch, name: str) -> Batch:
        """The batch as the task of this name sees it."""
        number = list(self.tasks).index(name)
        shared = {key: x for key, x in batch.items() if "/" not in key}
        weights = batch["weights"] * (batch[TASK] == number)
        return shared | {"weights": weights} | _own(batch, name)

    def prepare(self, batch: Batch, key: Array | None) -> Batch:
        """What each task does with its own examples, and WEIGHTS, the weight of each task in the step.

        All have the same key, so that each draws what it would draw alone.
        """
        most = max(self.groups.values())
        batch = without_empty(batch, jnp.asarray(list(self.groups.values()))[batch[TASK]], most)
        for name, task in self.tasks.items():
            batch = batch | {f"{name}/{key}": x for key, x in own_texts(batch, self.groups[name], most).items()}
            before = self.view(batch, name)
            after = task.prepare(before, key)
            changed = {column: x for column, x in after.items() if x is not before.get(column)}
            ids = changed.pop("input_ids", batch["input_ids"])
            batch = batch | {"input_ids": ids} | {f"{name}/{column}": x for column, x in changed.items()}
        sums = [jax.vmap(task.text_weights)(self.view(batch, name)).sum() for name, task in self.tasks.items()]
        micro_batches = batch["weights"].shape[0]
        return batch | {WEIGHTS: jnp.tile(jnp.stack(sums)[None], (micro_batches, 1))}

    def run_model(self, model: Model, params: Params, inputs: Batch, **options: Any) -> dict[str, Array]:
        """The outputs of all heads after one pass of the encoder: `logits` of the task NAME are "NAME/logits"."""
        own = {name: _own(inputs, name) for name in self.tasks}
        heads = model.apply_heads(params, inputs, list(self.tasks), own=own, **options)
        extra = options.get("outputs", ())
        found = {f"{name}/{key}": x for name, outputs in heads.items() for key, x in outputs.items() if key not in extra}
        return found | {key: next(iter(heads.values()))[key] for key in extra}

    def _scales(self, batch: Batch) -> tuple[list[Array], Array]:
        """(what the summed loss of each task is multiplied by, the sum of the weights of the tasks in the step)."""
        sums, weights = batch[WEIGHTS], jnp.asarray([self.weights[name] for name in self.tasks], jnp.float32)
        present = jnp.where(sums > 0, weights, 0.0)
        scales = present / jnp.where(sums > 0, sums, 1.0)
        return [scales[i] for i in range(len(self.tasks))], present.sum()

    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> WeightedSum:
        """(weighted sum of the mean losses of the tasks, the share of the weights that is in the micro-batch).

        Each mean is over the examples of the task in the whole step, so the weights of all micro-batches add up to 1.
        """
        total = jnp.zeros(())
        for scale, (name, task) in zip(self._scales(batch)[0], self.tasks.items(), strict=True):
            view = self.view(batch, name)
            found = task.loss(_own(outputs, name), view, train)
            total += scale * (with_weight(found, task.text_weights(view).sum()) if task.has_own_loss else found)[0]
        return total, self.text_weights(batch).sum()

    def soft_pairs(self, outputs: Outputs, teacher: Outputs, batch: Batch) -> list[OutputPair]:
        """Those of all tasks."""
        scales, whole = self._scales(batch)
        safe, pairs = jnp.where(whole > 0, whole, 1.0), []
        for scale, (name, task) in zip(scales, self.tasks.items(), strict=True):
            for pair in task.soft_pairs(_own(outputs, name), _own(teacher, name), self.view(batch, name)):
                pairs.append(replace(pair, weights=pair.weights * (scale / safe), share=pair.share * whole))
        return pairs

    def text_weights(self, batch: Batch) -> Array:
        """Each text's part of its task's weight, of all weights in the step."""
        scales, whole = self._scales(batch)
        safe, found = jnp.where(whole > 0, whole, 1.0), jnp.zeros(batch["first_token"].shape, jnp.float32)
        most = max(self.groups.values())
        for scale, (name, task) in zip(scales, self.tasks.items(), strict=True):
            own = task.text_weights(self.view(batch, name)) * (scale / safe)
            found += among_all(own, self.groups[name], most)
        return found

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """What each task reads back, and its loss and weight."""
        return self._collected("summarise", outputs, batch)

    def predict(self, outputs: Outputs, batch: Batch) -> Summary:
        """What each task with right answers reads back for its predictions."""
        return self._collected("predict", outputs, batch)

    def _collected(self, method: str, outputs: Outputs, batch: Batch) -> Summary:
        found = Summary()
        for name, task in self.tasks.items():
            if method == "predict" and not task.has_gold:
                continue
            own, view = _own(outputs, name), self.view(batch, name)
            part: Summary = getattr(task, method)(own, view)
            sums = dict(part.sums)
            if method == "summarise":
                sums["loss"], sums["weight"] = task.loss(own, view, False)
            for values, new in ((found.examples, part.examples), (found.sums, sums), (found.tokens, part.tokens)):
                values.update({f"{name}/{key}": x for key, x in new.items()})
        return found

    def parts(self, summary: Summary, split: Split) -> Iterator[tuple[str, Task, Summary, Split]]:
        """(name, task, what was collected for it, its split) of every task that the split has examples of."""
        assert isinstance(split, SeveralSplits)
        for number, (name, task) in enumerate(self.tasks.items()):
            if name in split.parts:
                yield name, task, split.part(summary, name, number), split.parts[name]

    @property
    def tuned(self) -> bool:
        """Whether no task has anything left to tune."""
        return all(task.tuned for task in self.tasks.values())

    def tune(self, summary: Summary, split: Split) -> Self:
        """A copy in which each task is tuned on its own part."""
        found = {name: task.tune(own, data) for name, task, own, data in self.parts(summary, split)}
        return replace(self, tasks={name: found.get(name, task) for name, task in self.tasks.items()})

    def scores(self, summary: Summary, split: Split) -> dict[str, Any]:
        """`loss`, the weighted sum of the tasks' mean losses, `score`, and the metrics of each task as "NAME/metric".

        `score` is the mean of the tasks' main metrics as `quality` sees them.
        """
        scores: dict[str, Any] = {}
        total, qualities = 0.0, []
        for name, task, own, data in self.parts(summary, split):
            loss, weight = (float(own.sums.pop(key)) for key in ("loss", "weight"))
            found = {"loss": loss / weight if weight else None, **task.scores(own, data)}
            total += self.weights[name] * (found["loss"] or 0.0)
            qualities.append(quality(task, found))
            scores |= {f"{name}/{key}": x for key, x in found.items()}
        known = [x for x in qualities if x is not None]
        return {"loss": total, SCORE: sum(known) / len(known) if known else None, **scores}

    def qualities(self, scores: Mapping[str, Any]) -> dict[str, float]:
        """The `quality` of each task whose main metric is among the scores of a split."""
        found = {}
        for name, task in self.tasks.items():
            value = quality(task, {task.metric: scores.get(f"{name}/{task.metric}")})
            if value is not None:
                found[name] = value
        return found

    def decode(self, summary: Summary, split: Split) -> Iterator[dict[str, Any]]:
        """The predictions of each task with right answers, one task after the other."""
        for _, task, own, data in self.parts(summary, split):
            if task.has_gold:
                yield from task.decode(own, data)


def several_tasks(
    tasks: Mapping[str, Task], weights: Mapping[str, float], groups: Mapping[str, int] | None = None
) -> SeveralTasks:
    """Several tasks as one, whose metrics are `score`, `loss` and those of each task; the arguments as in `SeveralTasks`."""
    own = {f"{name}/{metric}": higher for name, task in tasks.items() for metric, higher in task.metrics.items()}
    members = {
        "metrics": {**SeveralTasks.metrics, **own},
        "masks_inputs": any(task.masks_inputs for task in tasks.values()),
        "needs_all_rows": any(task.needs_all_rows for task in tasks.values()),
        "smooths_labels": any(task.smooths_labels for task in tasks.values()),
    }
    return type(SeveralTasks.__name__, (SeveralTasks,), members)(tasks, weights, groups or dict.fromkeys(tasks, 1))


def quality(task: Task, scores: Mapping[str, Any]) -> float | None:
    """The main metric of a task, of which higher is better and 1 is best; None if it is unknown.

    An error x counts as 1 / (1 + x), a perplexity as 1 / perplexity, which is the mean probability of a word.
    """
    value = scores.get(task.metric)
    if value is None or math.isnan(value):
        return None
    if task.metrics[task.metric]:
        return value / task.perfect
    return 1 / max(value, 1.0) if task.metric == "perplexity" else 1 / (1 + max(value, 0.0))


def _own(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The columns or outputs of a task under their plain names."""
    prefix = f"{name}/"
    return {key.removeprefix(prefix): x for key, x in values.items() if key.startswith(prefix)}


def _refuse(what: str) -> NoReturn:
    raise UserError(f"tasks: {what} is for one task; a run of several does it for each of them")
