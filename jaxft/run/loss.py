"""The loss of a run: the task's, of word embeddings that training may transform, inside wrappers that add other losses.

An addition to the loss is an entry of `embedding_transformations` or `loss_wrappers`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import jax

from jaxft.core.random_streams import OfPreparation
from jaxft.data.augmentation.pairs import RATIO
from jaxft.losses import WeightedSum
from jaxft.models.model import MAIN, Model
from jaxft.run.setup import FROZEN_FEATURES, Run
from jaxft.step.consistency import Consistency, with_consistency
from jaxft.step.cutoff import Cutoff, cut
from jaxft.step.distillation import TeacherOutputs, live_teacher, with_teacher
from jaxft.step.mixup import Mixup
from jaxft.step.pairs import split_pairs
from jaxft.step.parameters import Parameters
from jaxft.step.r_drop import with_r_drop
from jaxft.step.regularization import neftune
from jaxft.step.train_step import Batch, LossFn, Outputs, Prepare
from jaxft.step.unused_embeddings import embed_words
from jaxft.tasks.task import Task

RATES = ("dropout", "attention_dropout", "classifier_dropout")  # in `hyper` they replace the model's

# (word embeddings [R, T, D], micro-batch, key of the pass) -> word embeddings [R, T, D]. A pure function, which training
# applies before positions and token types are added; it folds a random stream of its own into the key.
EmbeddingTransformation = Callable[[jax.Array, Batch, jax.Array], jax.Array]
# A function that makes a loss of another one, which the new loss may call several times with other parameters, batches or
# keys. Without a key both return the same: evaluation uses the task's own loss.
LossWrapper = Callable[[LossFn], LossFn]


def run_prepare(run: Run) -> Prepare:
    """What training changes in the batch of a step, [K, R, ...] arrays, before it is divided into micro-batches."""
    steps: list[Prepare] = [run.task.prepare]
    if run.epochs and run.epochs.in_pairs:
        steps.insert(0, lambda batch, key: split_pairs(batch))
    if cutoff := run_cutoff(run):
        steps.append(lambda batch, key: cutoff.prepare(batch, jax.random.fold_in(key, OfPreparation.CUTOFF)))

    def prepare(batch: Batch, key: jax.Array) -> Batch:
        for step in steps:
            batch = step(batch, key)
        return batch

    return prepare


def run_cutoff(run: Run) -> Cutoff | None:
    """The cut-off that the config asks for."""
    augment = run.config.augment
    rates = augment.cutoff_tokens, augment.cutoff_span, augment.cutoff_features
    return Cutoff(*rates, augment.share, run.model.encoder.config.width) if any(rates) else None


def make_loss(
    model: Model, task: Task, transformations: Sequence[EmbeddingTransformation] = (), outputs: Collection[str] = ()
) -> LossFn:
    """The task's loss of a model whose word embeddings training transforms; dropout rates in `hyper` replace the model's.

    Training also returns these `outputs` of the encoder (see `Encoder.apply`).
    """

    def loss(
        params: Parameters, batch: Batch, key: jax.Array | None, hyper: Mapping[str, Any]
    ) -> tuple[WeightedSum, Outputs]:
        rates = model.override(**{name: hyper[name] for name in RATES if name in hyper})
        inputs = batch | {"hidden_states": batch[FROZEN_FEATURES]} if FROZEN_FEATURES in batch else batch
        if params.unused_words or (transformations and key is not None):
            words = embed_words(params, batch["input_ids"], training=key is not None)
            if key is not None:
                for transform in transformations:
                    words = transform(words, batch, key)
            inputs = inputs | {"inputs_embeds": words}
        mixup = Mixup(batch) if RATIO in batch and key is not None else None
        between = mixup.between if mixup else None
        extra = outputs if key is not None else ()
        found = model.apply(params.model, inputs, head=MAIN, key=key, rates=rates, between=between, outputs=extra)
        with jax.named_scope("loss"):
            if mixup:
                return mixup.loss(partial(task.loss, found, train=True), task.mixes == "tokens"), found
            return task.loss(found, batch, train=key is not None), found

    return loss


def embedding_transformations(run: Run) -> list[EmbeddingTransformation]:
    """The transformations of word embeddings that the config asks for, in order."""
    alpha = run.config.regularization.neftune
    transformations: list[EmbeddingTransformation] = [partial(neftune, alpha=alpha)] if alpha else []
    return [*transformations, cut] if run_cutoff(run) else transformations


def loss_wrappers(run: Run, teacher: TeacherOutputs | None = None) -> list[LossWrapper]:
    """The wrappers of the task's loss that the config asks for, the innermost first; the arguments are as in `run_loss`."""
    wrappers: list[LossWrapper] = []
    if run.teacher:
        teacher = teacher or live_teacher(run.teacher[0])
        own = {"teacher": teacher, "config": run.config.distill, "total_steps": run.total_steps}
        wrappers.append(partial(with_teacher, task=run.task, **own))
    if alpha := run.config.regularization.r_drop:
        wrappers.append(partial(with_r_drop, task=run.task, alpha=alpha))
    if run.config.unlabelled.data:  # outside the others, which divide by the weight of the labelled examples
        wrappers.append(partial(with_consistency, task_loss=run.task.loss, consistency=_consistency(run)))
    return wrappers


def _consistency(run: Run) -> Consistency:
    own = run.config.unlabelled
    rest = own.annealing, run.total_steps, run.sampler.micro_batches
    return Consistency(own.weight, own.temperature, own.confidence, *rest)


def run_loss(run: Run, teacher: TeacherOutputs | None = None) -> LossFn:
    """The loss of a run, for `value_and_grad`: a function of all parameters and a micro-batch, [R, ...] arrays.

    `teacher` gives the outputs of the run's teacher, if it has one; by default it runs in every step.
    """
    loss = make_loss(run.model, run.task, embedding_transformations(run))
    for wrap in loss_wrappers(run, teacher):
        loss = wrap(loss)
    return loss
