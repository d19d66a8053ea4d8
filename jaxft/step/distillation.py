"""Distillation (Hinton et al. 2015, arXiv:1503.02531): the teacher's parameters are frozen ones in the same jitted step."""

from collections.abc import Mapping
from typing import Any

import jax

from jaxft import losses
from jaxft.config import DistillConfig
from jaxft.core.errors import UserError, some
from jaxft.core.tree import Params
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.models.load_save import load
from jaxft.models.model import Model, are_generic
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import Batch, LossFn, Outputs
from jaxft.tasks.task import Task

TEACHER = "teacher"  # its key in `Parameters.teachers`


def load_teacher(config: DistillConfig, student: Model, tokenizer: Any, *, dtype: str) -> tuple[Model, Params]:
    """Load the teacher and check it against the student.

    Raises:
      UserError: when its labels or its vocabulary are not the student's.
    """
    model, params = load(str(config.teacher), dtype=dtype)
    kind, own_kind = (next(iter(x.heads.values())).kind for x in (model, student))
    if kind != own_kind:
        raise UserError(f"distill.teacher {config.teacher} is a {kind} model; this run needs a fine-tuned {own_kind} model")
    generic = len(model.labels) == len(student.labels) and are_generic(model.labels)
    if model.labels != student.labels and not generic:
        raise UserError(
            f"distill.teacher {config.teacher} has the labels {some(model.labels)} ({len(model.labels)}), this run has "
            f"{some(student.labels)} ({len(student.labels)}): set task.labels to the teacher's, in its order"
        )
    assert model.directory is not None
    vocabulary, own_vocabulary = load_tokenizer(model.directory).get_vocab(), tokenizer.get_vocab()
    if vocabulary == own_vocabulary:
        return model, params
    if vocabulary.items() <= own_vocabulary.items():
        unknown = sorted(own_vocabulary.keys() - vocabulary.keys(), key=own_vocabulary.__getitem__)
        raise UserError(
            f"distill.teacher {config.teacher} does not know the words that were added ({some(unknown)}): add them to it "
            "first, by a run of its own"
        )
    raise UserError(f"distill.teacher {config.teacher} has another vocabulary than the student: they share token ids")


def with_teacher(loss_fn: LossFn, task: Task, teacher: Model, config: DistillConfig) -> LossFn:
    """The student's loss mixed with the soft loss against the teacher's outputs; evaluation uses the student's own loss."""

    def loss(
        params: Parameters, batch: Batch, key: jax.Array | None, hyper: Mapping[str, Any]
    ) -> tuple[losses.WeightedSum, Outputs]:
        hard, outputs = loss_fn(params, batch, key, hyper)
        if key is None:
            return hard, outputs
        target = jax.lax.stop_gradient(teacher.apply(params.teachers[TEACHER], batch))
        soft = task.soft_loss(outputs, target, batch, config.temperature)
        return losses.mix(hard, soft, config.alpha), outputs

    return loss
