"""The loss of a run: the task's, of word embeddings that training may transform, in wrappers that add to it.

Whatever is added to a loss is one more entry of `embedding_transformations` or `loss_wrappers`.
"""

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from typing import Any, Protocol

import jax

from jaxft.losses import WeightedSum
from jaxft.models.model import MAIN, Model
from jaxft.run.setup import PREFIX, Run
from jaxft.step.distillation import with_teacher
from jaxft.step.parameters import Parameters
from jaxft.step.r_drop import with_r_drop
from jaxft.step.regularization import neftune
from jaxft.step.train_step import LossFn
from jaxft.step.unused_embeddings import embedded
from jaxft.tasks.task import Task

RATES = ("dropout", "attention_dropout", "classifier_dropout")  # in `hyper` they replace the model's


class EmbeddingTransformation(Protocol):
    """What training makes of the word embeddings of a micro-batch, before positions and token types are added."""

    def __call__(self, words: jax.Array, batch: dict[str, jax.Array], key: jax.Array, /) -> jax.Array:
        """Pure.

        Args:
          words: [R, T, D], as the transformations before it left them.
          batch: the micro-batch.
          key: of this pass; a stream of random numbers of its own is folded in.

        Returns:
          [R, T, D].
        """
        ...


class LossWrapper(Protocol):
    """A loss made of another."""

    def __call__(self, loss_fn: LossFn, /) -> LossFn:
        """A `LossFn` that may call the given one several times, each time with other parameters, batch or key.

        Without a key it returns what the given one does: evaluation has the task's own loss.
        """
        ...


def make_loss(model: Model, task: Task, transformations: Sequence[EmbeddingTransformation] = ()) -> LossFn:
    """The task's loss as a function of all parameters and a batch; dropout rates in `hyper` replace the model's.

    Args:
      model, task: of the run.
      transformations: of word embeddings in training, in their order.
    """

    def loss(
        params: Parameters, batch: dict[str, jax.Array], key: jax.Array | None, hyper: Mapping[str, Any]
    ) -> tuple[WeightedSum, dict[str, jax.Array]]:
        rates = model.override(**{name: hyper[name] for name in RATES if name in hyper})
        inputs = batch | {"hidden_states": batch[PREFIX]} if PREFIX in batch else batch
        transformed = transformations if key is not None else ()
        if params.unused_words or transformed:
            words = embedded(params, batch["input_ids"], training=key is not None)
            for transform in transformed:
                assert key is not None
                words = transform(words, batch, key)
            inputs = inputs | {"inputs_embeds": words}
        outputs = model.apply(params.model, inputs, head=MAIN, key=key, rates=rates)
        with jax.named_scope("loss"):
            return task.loss(outputs, batch, train=key is not None), outputs

    return loss


def embedding_transformations(run: Run) -> list[EmbeddingTransformation]:
    """What the config does to word embeddings in training, in its order."""
    alpha = run.config.regularization.neftune
    return [partial(neftune, alpha=alpha)] if alpha else []


def loss_wrappers(run: Run) -> list[LossWrapper]:
    """What the config adds to the task's loss, the innermost first."""
    wrappers: list[LossWrapper] = []
    if run.teacher:
        wrappers.append(partial(with_teacher, task=run.task, teacher=run.teacher[0], config=run.config.distill))
    if alpha := run.config.regularization.r_drop:
        wrappers.append(partial(with_r_drop, task=run.task, alpha=alpha))
    return wrappers


def run_loss(run: Run) -> LossFn:
    """The training loss of a run: the task's, with what the config adds to it."""
    own = make_loss(run.model, run.task, embedding_transformations(run))
    return reduce(lambda loss, wrap: wrap(loss), loss_wrappers(run), own)
