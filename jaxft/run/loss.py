"""The loss of a run: the task's, of word embeddings that training may transform, inside wrappers that add other losses.

An addition to the loss is an entry of `embedding_transformations` or `loss_wrappers`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.core.random_streams import OfPreparation
from jaxft.data.augmentation.pairs import RATIO
from jaxft.losses import WeightedSum, with_weight
from jaxft.models.encoder.layer_outputs import HIDDEN, layer_output
from jaxft.models.model import Model
from jaxft.run.setup import FROZEN_FEATURES, Run
from jaxft.run.teachers import matches_of, taught_task, teacher_outputs
from jaxft.step.adversarial import ON_LABELS, RANDOM_STARTS, with_adversary, with_virtual_adversary
from jaxft.step.cached_teacher import Stored
from jaxft.step.consistency import Consistency, with_consistency
from jaxft.step.cutoff import Cutoff, cut
from jaxft.step.distillation import with_teacher
from jaxft.step.domains import DomainLoss, count_domains, with_domains
from jaxft.step.matches import Matches
from jaxft.step.mixup import Mixup
from jaxft.step.pairs import split_pairs
from jaxft.step.parameters import Parameters
from jaxft.step.perturbation import PERTURBATION, with_seeds
from jaxft.step.r_drop import with_r_drop
from jaxft.step.regularization import neftune
from jaxft.step.train_step import Batch, LossFn, Outputs, Prepare
from jaxft.step.unused_embeddings import embed_words
from jaxft.tasks.task import Task

NOTHING: Mapping[str, Stored] = MappingProxyType({})
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
    if run.config.adversarial.method in RANDOM_STARTS:
        steps.append(lambda batch, key: with_seeds(batch, jax.random.fold_in(key, OfPreparation.PERTURBATION)))
    if run.config.domains.used:
        steps.append(lambda batch, key: count_domains(run.task, batch))

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
    model: Model,
    task: Task,
    transformations: Sequence[EmbeddingTransformation] = (),
    outputs: Collection[str] = (),
    *,
    labelled: bool = True,
) -> LossFn:
    """The task's loss of a model whose word embeddings training transforms; dropout rates in `hyper` replace the model's.

    Training also returns these `outputs` of the encoder (see `Encoder.apply`). The loss of training batches that are not
    `labelled` is 0 with weight 0: wrappers give them another one.
    """

    def loss(
        params: Parameters, batch: Batch, key: jax.Array | None, hyper: Mapping[str, Any]
    ) -> tuple[WeightedSum, Outputs]:
        rates = model.override(**{name: hyper[name] for name in RATES if name in hyper})
        inputs = batch | {"hidden_states": batch[FROZEN_FEATURES]} if FROZEN_FEATURES in batch else batch
        if params.unused_words or PERTURBATION in batch or (transformations and key is not None):
            words = embed_words(params, batch["input_ids"], training=key is not None)
            if key is not None:
                for transform in transformations:
                    words = transform(words, batch, key)
            if PERTURBATION in batch:
                words += batch[PERTURBATION].astype(words.dtype)
            inputs = inputs | {"inputs_embeds": words}
        mixup = Mixup(batch) if RATIO in batch and key is not None else None
        between = mixup.between if mixup else None
        extra = outputs if key is not None else ()
        found = task.run_model(model, params.model, inputs, key=key, rates=rates, between=between, outputs=extra)
        if key is not None and not labelled:
            return (jnp.zeros(()), jnp.zeros(())), found
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


def changes_words(run: Run) -> bool:
    """Whether training changes word embeddings, so that the outputs of no layer are the same in all steps."""
    return bool(embedding_transformations(run) or run.config.adversarial.method)


def needs_all_rows(run: Run) -> bool:
    """Whether the loss of a micro-batch is not the sum of the losses of its rows (`train_step.value_and_grad`)."""
    return run.task.needs_all_rows or bool(run.config.regularization.neftune)  # whose noise is drawn for all rows at once


def loss_wrappers(run: Run, stored: Mapping[str, Stored] = NOTHING) -> list[LossWrapper]:
    """The wrappers of the task's loss that the config asks for, the innermost first; the arguments are as in `run_loss`."""
    wrappers: list[LossWrapper] = []
    own = run.config.adversarial
    virtual = own.method and own.method not in ON_LABELS
    added = run.teachers, run.config.regularization.r_drop, virtual, run.config.unlabelled.data, run.config.domains.used
    if run.config.task.loss and any(added):
        wrappers.append(partial(with_text_weights, task=run.task))
    if run.teachers:
        matches, task = run_matches(run), taught_task(run.teachers, run.task, run.config)
        teacher = teacher_outputs(run.teachers, stored, matches.teacher_outputs if matches else ())
        options = {"config": run.config.distill, "total_steps": run.total_steps, "matches": matches}
        wrappers.append(partial(with_teacher, task=task, teacher=teacher, **options))
    if alpha := run.config.regularization.r_drop:
        wrappers.append(partial(with_r_drop, task=run.task, alpha=alpha))
    if virtual:
        width = run.model.encoder.config.width
        wrappers.append(partial(with_virtual_adversary, task=run.task, config=own, width=width))
    if run.config.unlabelled.data:  # outside the others, which divide by the weight of the labelled examples
        wrappers.append(partial(with_consistency, task_loss=run.task.loss, consistency=_consistency(run)))
    if run.config.domains.used:
        wrappers.append(partial(with_domains, domain_loss=_domain_loss(run)))
    if own.method in ON_LABELS:  # outermost: it computes gradients itself
        wrappers.append(partial(with_adversary, config=own, width=run.model.encoder.config.width))
    return wrappers


def with_text_weights(loss_fn: LossFn, task: Task) -> LossFn:
    """A loss of the user's with the weight that `Task.text_weights` says, by which wrappers weigh what they add to it."""

    def loss(
        params: Parameters, batch: Batch, key: jax.Array | None, hyper: Mapping[str, Any]
    ) -> tuple[WeightedSum, Outputs]:
        found, outputs = loss_fn(params, batch, key, hyper)
        return (found if key is None else with_weight(found, task.text_weights(batch).sum())), outputs

    return loss


def run_matches(run: Run) -> Matches | None:
    """The matches between the layers of student and teacher that the config asks for."""
    return matches_of(run.config, run.model, run.teachers)


def _domain_loss(run: Run) -> DomainLoss:
    own = run.config.domains
    return DomainLoss(own.weight, own.gamma, run.total_steps, _domain_features(run))


def _domain_features(run: Run) -> str:
    """The encoder's output that the domain classifier reads: the hidden states of its last layer."""
    return layer_output(HIDDEN, run.model.encoder.config.applied_layers)


def _consistency(run: Run) -> Consistency:
    own = run.config.unlabelled
    rest = own.annealing, run.total_steps, run.sampler.micro_batches
    return Consistency(own.weight, own.temperature, own.confidence, *rest)


def run_loss(run: Run, stored: Mapping[str, Stored] = NOTHING) -> LossFn:
    """The loss of a run, for `value_and_grad`: a function of all parameters and a micro-batch, [R, ...] arrays.

    `stored` are the outputs of teachers, by their keys, that are columns of the batch; other teachers run in every step.
    """
    matches, labelled = run_matches(run), not run.config.distill.unlabelled
    features = [_domain_features(run)] if run.config.domains.used else []
    outputs = sorted({*(matches.student_outputs if matches else ()), *features})
    loss = make_loss(run.model, run.task, embedding_transformations(run), outputs, labelled=labelled)
    for wrap in loss_wrappers(run, stored):
        loss = wrap(loss)
    return loss
