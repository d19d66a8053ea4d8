"""Whether a run keeps the outputs of its teacher, and which; the columns that they become."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from jaxft.core.errors import UserError
from jaxft.data.tokens.encode import Examples
from jaxft.run.loss import run_matches
from jaxft.run.setup import Run
from jaxft.step.cached_teacher import Stored, is_stored, prefixed, stored_outputs
from jaxft.step.distillation import TEACHER
from jaxft.tasks.task import Task
from jaxft.teacher_cache.store import Array, Arrays

_NAMES = {"attentions": "attention probabilities", "attention_scores": "attention scores", "values": "attention values"}


@dataclass(frozen=True)
class Choice:
    """What a run does with its teachers.

    Attributes:
      stored: the outputs that are kept, by teacher; other teachers run in every step.
      line: what the log says of it; empty without a teacher.
    """

    stored: Mapping[str, Stored] = field(default_factory=dict)
    line: str = ""


def choose(run: Run) -> Choice:
    """Decide by the config and the data alone, so that a run makes the same choice whenever it is started.

    The outputs of a teacher that does not read the student's tokens are kept in any case.

    Raises:
      UserError: if the config asks for a cache that the run cannot have.
    """
    if not run.teachers:
        return Choice()
    config, matches = run.config.distill, run_matches(run)
    outputs = matches.teacher_outputs if matches else ()
    why = _why_not(run, outputs)
    asks = "cache on" if config.cache == "on" else "cache_dir" if config.cache_dir else ""
    asks = asks or ("keep_logits" if config.keep_logits else "")
    if asks and why:
        raise UserError(f"distill.{asks}: the teacher must run in every step, because {why}; leave distill.cache at auto")
    if config.cache == "off":
        why = "distill.cache is off"
    elif not asks and run.total_steps <= run.steps_per_epoch:
        why = "there is one epoch (distill.cache on would keep its outputs for other runs)"
    if config.keep_logits:
        _check_keeping(run)
    own = {"group": run.data["train"].examples.group, "mesh": run.mesh, "keep": config.keep_logits, "outputs": outputs}
    kept = [x for x in run.teachers if not (why and x.is_live)]
    stored = {x.key: stored_outputs(x.model, x.params, **own) for x in kept}
    if len(kept) < len(run.teachers):
        return Choice(stored, f"the teacher runs in every step, because {why}")
    return Choice(stored, "the teacher runs once, before training")


def arrays_of(stored: Stored, examples: Examples) -> Arrays:
    """Shapes and dtypes of all columns of the outputs for some examples."""
    rows = {"example": len(examples), "token": int(examples.offsets[-1])}
    columns = {name: column for x in stored for name, column in x.columns.items()}
    return {name: Array((rows[x.per], *x.shape), x.dtype) for name, x in columns.items()}


def with_outputs(examples: Examples, stored: Stored, values: Mapping[str, np.ndarray], teacher: str = TEACHER) -> Examples:
    """The examples with the columns of a teacher's outputs."""
    per = {name: column.per for x in stored for name, column in x.columns.items()}
    of_examples, of_tokens = (
        {prefixed(name, teacher): x for name, x in values.items() if per[name] == kind} for kind in ("example", "token")
    )
    return examples.with_columns(**of_examples).with_tokens(**of_tokens)


def like_outputs(examples: Examples, stored: Mapping[str, Stored]) -> Examples:
    """The examples with columns of the right shapes and types, whose values take no memory."""
    for teacher, own in stored.items():
        arrays = arrays_of(own, examples)
        empty = {name: np.broadcast_to(np.zeros((), x.dtype), x.shape) for name, x in arrays.items()}
        examples = with_outputs(examples, own, empty, teacher)
    return examples


def _why_not(run: Run, outputs: Collection[str]) -> str:
    """Why the outputs for an example are not the same in all epochs, or cannot be kept; empty if they can."""
    if others := sorted({name.partition(".")[0] for name in outputs if not is_stored(name)}):
        return (
            f"distill.matches compares its {' and '.join(_NAMES.get(x, x) for x in others)}, which take too much disk space"
        )
    if run.task.masks_inputs or type(run.task).prepare is not Task.prepare:
        return f"{run.task.kind} changes its inputs in every step"
    if run.config.augment.steps:
        return "augment.steps changes the texts in every epoch"
    return "the examples are other ones in every epoch" if run.epochs else ""


def _check_keeping(run: Run) -> None:
    kind = getattr(run.task, "problem", run.task.kind)
    if kind not in ("single_label", "token-classification"):
        raise UserError(f"distill.keep_logits is for text classification with one label and for tags, not for {kind}")
