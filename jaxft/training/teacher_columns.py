"""Outputs of teachers with tokenizers of their own, computed before training: an example column of the training data."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from jaxft.data.batching.collect import Summary
from jaxft.data.tokens.encode import Examples
from jaxft.evaluation.chunks import Forward, predict_step
from jaxft.parallel import sharding
from jaxft.run.setup import Run
from jaxft.run.teachers import Teacher
from jaxft.tasks.task import Batch, Outputs


def fill_teacher_columns(run: Run, say: Callable[[str], None]) -> None:
    """Write the outputs of all teachers that do not run in the step into their columns of the training examples."""
    for teacher in run.teachers:
        if teacher.examples:
            say(f"computing the outputs of distill.teacher {teacher.name} for {len(teacher.examples):,} training texts")
            write_outputs(run, teacher, teacher.examples, run.data["train"].examples.columns[teacher.key])


def write_outputs(run: Run, teacher: Teacher, examples: Examples, logits: np.ndarray) -> None:
    """Write a teacher's logits for examples in its own tokens into an array [N, C], of C labels or choices."""
    params = sharding.place_params(run.mesh, teacher.params)
    step = partial(predict_step, model=teacher.model, summarise=_by_example, prepare=run.task.prepare)
    Forward(step, params, run.mesh, run.config)(examples, summary=Summary(examples={"logits": logits}))


def _by_example(outputs: Outputs, batch: Batch) -> Summary:
    logits: jax.Array = outputs["logits"]
    return Summary(examples={"logits": logits.reshape(*batch["weights"].shape, -1)})
