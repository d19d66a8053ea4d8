"""Distillation (Hinton et al. 2015, arXiv:1503.02531): the teacher's parameters are frozen ones in the same jitted step."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxft import losses
from jaxft.config import DistillConfig
from jaxft.core.errors import UserError
from jaxft.losses import OutputPair, soft
from jaxft.models.model import Model
from jaxft.step.matches import Matches
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import MEANS, STEP, Batch, LossFn, Outputs

TEACHER = "teacher"  # the key of a single teacher in `Parameters.teachers`


def check_options(config: DistillConfig, micro_batches: int) -> None:
    """Refuse options that compare all examples of a step if a step is divided.

    Raises:
      UserError: if there are several micro-batches.
    """
    for name, value in (("loss", config.loss), ("temperature_schedule", config.temperature_schedule)):
        if micro_batches > 1 and value in (*soft.BETWEEN, "flsw", "cwsm"):
            raise UserError(f"distill.{name} {value} needs train.micro_batches 1: it compares the examples of a whole step")


def soft_loss(pairs: Sequence[OutputPair], config: DistillConfig) -> jax.Array:
    """The sum of the losses of all pairs of outputs, each a sum over examples or tokens.

    Raises:
      UserError: if the outputs are not of the kind that the config's options need.
    """
    total = jnp.zeros(())
    for pair in pairs:
        used = soft.shifted(_with_labels(pair)) if config.probability_shift else pair
        temperature = _temperature(used, config)
        if config.loss in soft.BETWEEN and not pair.between:
            raise UserError(f"distill.loss is {config.loss}: compares whole texts, and this task has outputs of tokens")
        if config.squared_temperature and pair.activation != "identity":
            used = replace(used, weights=used.weights * temperature**2)
        total += pair.share * soft.LOSSES[config.loss](used, temperature)[0]
    return total


def _with_labels(pair: OutputPair) -> OutputPair:
    if pair.activation != "softmax" or pair.labels is None:
        raise UserError("distill.probability_shift: needs a task with one right answer")
    return pair


def _temperature(pair: OutputPair, config: DistillConfig) -> jax.Array | float:
    """The temperature, or one for each example."""
    if config.temperature_schedule == "constant":
        return config.temperature
    if pair.activation != "softmax":
        raise UserError(f"distill.temperature_schedule {config.temperature_schedule}: needs a task with one right answer")
    if config.temperature_schedule == "flsw":
        return soft.flsw_temperature(pair, config.temperature, config.temperature_beta, config.temperature_gamma)
    return soft.cwsm_temperature(pair, config.temperature, config.temperature_beta)


# (parameters of the run, micro-batch) -> the teacher's outputs for it, in the form of the student's.
TeacherOutputs = Callable[[Parameters, Batch], Outputs]


class SoftPairs(Protocol):
    """What distillation needs of a task."""

    def soft_pairs(self, outputs: Outputs, teacher: Outputs, batch: Batch) -> list[OutputPair]:
        """As in `Task`."""
        ...

    def text_weights(self, batch: Batch) -> jax.Array:
        """As in `Task`."""
        ...


def live_teacher(teacher: Model, outputs: Collection[str] = (), key: str = TEACHER) -> TeacherOutputs:
    """A teacher that runs in the train step, with `outputs` of its encoder in addition to those of its head.

    `key` is that of its parameters in `Parameters.teachers`.
    """

    def run(params: Parameters, batch: Batch) -> Outputs:
        with jax.named_scope("teacher"):
            return jax.lax.stop_gradient(teacher.apply(params.teachers[key], batch, outputs=outputs))

    return run


def with_teacher(
    loss_fn: LossFn,
    task: SoftPairs,
    teacher: TeacherOutputs,
    config: DistillConfig,
    total_steps: int,
    matches: Matches | None = None,
) -> LossFn:
    """The student's loss mixed with the soft loss against the teacher's outputs, and added to it the matches of layers;
    evaluation uses the student's own loss.

    The parts of the loss, without their weights, are MEANS of the step: `distill/hard`, `distill/soft` and of each match,
    such as `distill/match_1_hidden_mse`. With matches, `loss_fn` and `teacher` also return the outputs of the encoders that
    these need.
    """

    def loss(
        params: Parameters, batch: Batch, key: jax.Array | None, hyper: Mapping[str, Any]
    ) -> tuple[losses.WeightedSum, Outputs]:
        hard, outputs = loss_fn(params, batch, key, hyper)
        if key is None:
            return hard, outputs
        target = teacher(params, batch)
        alpha = config.alpha
        if config.alpha_end is not None:
            alpha += (config.alpha_end - alpha) * hyper[STEP].astype(jnp.float32) / max(total_steps - 1, 1)
        pairs = task.soft_pairs(outputs, target, batch)
        if config.unlabelled:
            hard, alpha = (jnp.zeros(()), pairs[0].weights.sum()), 1.0
        total, parts = jnp.zeros(()), {} if config.unlabelled else {"hard": hard[0]}
        if config.output_weight:
            with jax.named_scope("distillation"):
                parts["soft"] = soft = soft_loss(pairs, config)
            total = config.output_weight * ((1 - alpha) * hard[0] + alpha * soft)
        if matches:
            with jax.named_scope("matches"):
                each = matches.parts(params.model, outputs, target, batch, task.text_weights(batch))
            for match, own in zip(matches.matches, each, strict=True):
                total += match.config.weight * own
                parts[f"match_{match.number}_{match.config.match}"] = own
        return (total, hard[1]), {**outputs, **{f"{MEANS}distill/{name}": x for name, x in parts.items()}}

    return loss
