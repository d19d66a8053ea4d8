"""Outputs of teachers with tokenizers of their own, computed before training: an example column of the training data."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxft.data.batching.collect import Summary
from jaxft.evaluation.chunks import Forward, predict_step
from jaxft.parallel import sharding
from jaxft.run.setup import Run
from jaxft.run.teachers import Teacher
from jaxft.tasks.task import Batch, Outputs, Split


def fill_teacher_columns(run: Run, say: Callable[[str], None]) -> None:
    """Write the outputs of all teachers that do not run in the step into their columns of the training examples."""
    split = run.data["train"]
    for teacher in run.teachers:
        if not teacher.is_live:
            say(f"computing the outputs of distill.teacher {teacher.name} for {len(split.examples):,} training texts")
            write_outputs(run, teacher, split, split.examples.columns[teacher.key])


def write_outputs(run: Run, teacher: Teacher, split: Split, logits: np.ndarray) -> None:
    """Write a teacher's logits for the texts of a split, as its own tokenizer divides them, into an array [N, C].

    C is the number of labels or, in multiple choice, of choices.
    """
    examples = own_split(run, teacher, split, labelled=False).examples
    params = sharding.place_params(run.mesh, teacher.params)
    step = partial(predict_step, model=teacher.model, summarise=_by_example, prepare=run.task.prepare)
    Forward(step, params, run.mesh, run.config)(examples, summary=Summary(examples={"logits": logits}))


def own_split(run: Run, teacher: Teacher, split: Split, *, labelled: bool = True) -> Split:
    """A split in the tokens of a teacher; the split itself if they are the student's."""
    if teacher.is_live:
        return split
    directory: Any = teacher.model.directory
    return run.task.encode(split.rows, teacher.tokenizer, directory, run.config, split.origin, labelled=labelled)


def _by_example(outputs: Outputs, batch: Batch) -> Summary:
    logits: jax.Array = outputs["logits"]
    return Summary(examples={"logits": logits.reshape(*batch["weights"].shape, -1)})
