"""The train step, several of them in one program, and the evaluation step: pure functions, jitted once per batch shape."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from jaxft.core import random_keys
from jaxft.core.random_streams import OfStep
from jaxft.core.tree import Params
from jaxft.data.batching.collect import Summary
from jaxft.losses import WeightedSum
from jaxft.optim import Optimizer
from jaxft.step.device_sums import sums_over_devices
from jaxft.step.parameters import Parameters
from jaxft.step.regularization import Regularization

Array = jax.Array
Batch = dict[str, Array]
Outputs = dict[str, Array]
Prepare = Callable[[Batch, Array], Batch]
STEP = "step"  # the number of the step, in the hyperparameters that a loss gets
METRICS = "metrics/"  # an output with this prefix is a micro-batch's part of a metric, a scalar: the step has their sum
MEANS = "means/"  # as METRICS, but a sum over what the loss weighs: the step has its mean, as of the loss
# (all parameters, one micro-batch, key or None, hyperparameters) -> ((loss sum, weight), outputs of the model)
LossFn = Callable[[Parameters, Batch, Array | None, Mapping[str, Any]], tuple[WeightedSum, Outputs]]


@partial(
    jax.tree_util.register_dataclass, data_fields=["params", "opt_state", "step", "key", "hyper", "average"], meta_fields=[]
)
@dataclass(frozen=True)
class TrainState:
    """What a step changes, and the constants that it needs.

    Attributes:
      params: trainable parameters only.
      opt_state: the optimizer's state for them.
      step: number of steps done, int32.
      key: the run's root key; the key of a step is `fold_in(key, step)`, so there is no random state to save.
      hyper: learning rate, weight decay, clip: float32 scalars that a sweep may map over.
      average: moving average of the parameters; empty without `regularization.ema`.
    """

    params: Params
    opt_state: Any
    step: Array
    key: Array
    hyper: dict[str, Array]
    average: Params = field(default_factory=dict)

    @property
    def evaluated(self) -> Params:
        """The parameters that evaluation and export use: the moving average if there is one."""
        return self.average or self.params


def init_state(
    params: Params, optimizer: Optimizer, key: Array, hyper: dict[str, Array], *, average: bool = False
) -> TrainState:
    """The state before the first step."""
    state = TrainState(params, optimizer.build(hyper).init(params), jnp.zeros((), jnp.int32), key, hyper)
    return replace(state, average=jax.tree.map(jnp.copy, params)) if average else state


def value_and_grad(
    state: TrainState,
    frozen: Parameters,
    batch: Batch,
    *,
    loss_fn: LossFn,
    prepare: Prepare | None = None,
    regularization: Regularization | None = None,
    needs_all_rows: bool = False,
) -> tuple[tuple[Array, Array], Params]:
    """The loss of a step and its gradients for the trainable parameters.

    Frozen parameters have no gradients, so the backward pass stops at the lowest trainable layer. The sums of micro-batches
    (the leading axis of the batch) are added, then divided once by the weight of the step.

    Args:
      state, frozen: trainable state, and all other parameters.
      batch: [K, R, ...] arrays.
      loss_fn: from all parameters, a micro-batch, a key and the hyperparameters to ((sum, weight), outputs).
      prepare: changes the whole batch first (masking), with its own key.
      regularization: mixout, and penalties (once per step).
      needs_all_rows: whether the loss of a micro-batch is not the sum of the losses of its rows; then devices exchange the
        gradients of each micro-batch, otherwise those of the step.

    Returns:
      ((`loss`, the mean of the step, with penalties, its `weight`), gradients), both scalars float32.
    """
    parts = {"prepare": prepare, "regularization": regularization, "needs_all_rows": needs_all_rows}
    metrics, grads = metrics_and_grads(state, frozen, batch, loss_fn=loss_fn, **parts)
    return (metrics["loss"], metrics["weight"]), grads


def metrics_and_grads(
    state: TrainState,
    frozen: Parameters,
    batch: Batch,
    *,
    loss_fn: LossFn,
    prepare: Prepare | None = None,
    regularization: Regularization | None = None,
    needs_all_rows: bool = False,
) -> tuple[dict[str, Array], Params]:
    """As `value_and_grad`, but returns `loss` and `weight` by name, with the other METRICS and MEANS that the loss gives."""
    step_key = jax.random.fold_in(state.key, state.step)
    if prepare:
        with jax.named_scope("prepare"):
            batch = prepare(batch, jax.random.fold_in(step_key, OfStep.PREPARE))

    def objective(
        params: Params, others: tuple[TrainState, Parameters, Array], micro: Batch, number: Array
    ) -> tuple[Array, tuple[Array, dict[str, Array]]]:
        state, frozen, step_key = others
        key = jax.random.fold_in(step_key, number)
        if regularization and regularization.config.mixout:  # the same in all micro-batches
            params = regularization.mixed(params, frozen.reference, jax.random.fold_in(step_key, OfStep.MIXOUT))
        (loss_sum, weight), outputs = loss_fn(frozen.combined(params), micro, key, state.hyper | {STEP: state.step})
        more = {name: x for name, x in outputs.items() if name.startswith((METRICS, MEANS))}
        return loss_sum, (weight, more)

    gradient = jax.value_and_grad(objective, has_aux=True)
    micro_batches = jax.tree.leaves(batch)[0].shape[0]

    def add_up(shared: tuple[Params, Any], batch: Batch) -> Any:
        params, others = shared

        def add(carry: Any, number: Array) -> tuple[Any, dict[str, Array]]:
            (loss_sum, (weight, more)), grads = gradient(params, others, _micro(batch, number), number)
            return jax.tree.map(jnp.add, carry, ((loss_sum, weight), grads)), more

        zero = jnp.zeros((), jnp.float32)
        start = ((zero, zero), jax.tree.map(jnp.zeros_like, params))
        (sums, grads), each = jax.lax.scan(add, start, jnp.arange(micro_batches, dtype=jnp.int32))
        return (*sums, {name: x.sum(0) for name, x in each.items()}), grads

    others = (replace(state, params={}, opt_state=(), average={}), frozen, step_key)
    if micro_batches == 1:
        (loss_sum, (weight, more)), grads = gradient(state.params, others, _micro(batch, 0), jnp.zeros((), jnp.int32))
    else:
        add_all = add_up if needs_all_rows else partial(sums_over_devices, add_up)
        (loss_sum, weight, more), grads = add_all((state.params, others), batch)
    scale = 1.0 / jnp.where(weight > 0, weight, 1.0)  # class weights may add up to less than 1
    grads = jax.tree.map(lambda g: g * scale.astype(g.dtype), grads)
    loss = loss_sum * scale
    if regularization and regularization.penalises:
        with jax.named_scope("penalty"):
            penalty, penalty_grads = jax.value_and_grad(regularization.penalty)(state.params, frozen.reference)
        loss, grads = loss + penalty, jax.tree.map(jnp.add, grads, penalty_grads)
    sums = {name.removeprefix(METRICS): x for name, x in more.items() if name.startswith(METRICS)}
    means = {name.removeprefix(MEANS): x * scale for name, x in more.items() if name.startswith(MEANS)}
    return {"loss": loss, "weight": weight, **sums, **means}, grads


def apply_gradients(
    state: TrainState, grads: Params, *, optimizer: Optimizer, regularization: Regularization | None = None
) -> TrainState:
    """The state after a step with these gradients.

    Args:
      state: with the parameters that the gradients are of.
      grads: float32, in the structure of `state.params`.
      optimizer: built from `state.hyper` inside the program.
      regularization: with the moving average.
    """
    with jax.named_scope("optimizer"):
        updates, opt_state = optimizer.build(state.hyper).update(grads, state.opt_state, state.params)
        params = cast(Params, optax.apply_updates(state.params, updates))
    with jax.named_scope("average"):
        average = regularization.averaged(state.average, params, state.step) if regularization and state.average else {}
    return TrainState(params, opt_state, state.step + 1, state.key, state.hyper, average)


def train_step(
    state: TrainState,
    frozen: Parameters,
    batch: Batch,
    *,
    loss_fn: LossFn,
    optimizer: Optimizer,
    prepare: Prepare | None = None,
    regularization: Regularization | None = None,
    needs_all_rows: bool = False,
) -> tuple[TrainState, dict[str, Array]]:
    """One optimizer step: `value_and_grad` and `apply_gradients`.

    Returns:
      (new state, float32 scalars `loss` (the mean of the step, with penalties), `weight`, `grad_norm` before clipping, and
      other METRICS of the loss).
    """
    parts = {"prepare": prepare, "regularization": regularization, "needs_all_rows": needs_all_rows}
    metrics, grads = metrics_and_grads(state, frozen, batch, loss_fn=loss_fn, **parts)
    new = apply_gradients(state, grads, optimizer=optimizer, regularization=regularization)
    with jax.named_scope("gradient_norm"):
        norm = optimizer.norm(grads)
    return new, {**metrics, "grad_norm": norm}


def train_steps(
    state: TrainState, frozen: Parameters, batches: Batch, *, steps: int, **parts: Any
) -> tuple[TrainState, dict[str, Array]]:
    """Several train steps in one program (`runtime.steps_per_execution`), with the keyword arguments of `train_step`.

    `batches` are [steps * K, R, ...] arrays, the K micro-batches of each step in order, and metrics are arrays [steps].
    """
    each = {name: x.reshape(steps, -1, *x.shape[1:]) for name, x in batches.items()}
    return jax.lax.scan(lambda state, batch: train_step(state, frozen, batch, **parts), state, each)


def eval_step(
    params: Parameters,
    batch: Batch,
    *,
    loss_fn: LossFn,
    summarise: Callable[[dict[str, Array], Batch], Summary],
    prepare: Prepare | None = None,
) -> Summary:
    """The task's summary of the outputs, with the loss among its sums, for a batch [1, R, ...] of one micro-batch.

    `prepare` gets the same key in every evaluation, so that scores can be compared.
    """
    batch = prepare(batch, random_keys.root_key(0)) if prepare else batch
    micro = _micro(batch, 0)
    (loss_sum, weight), outputs = loss_fn(params, micro, None, {})
    summary = summarise(outputs, micro)
    return replace(summary, sums=summary.sums | {"loss": loss_sum, "weight": weight})


def _micro(batch: Batch, number: Any) -> Batch:
    return {name: x[number] for name, x in batch.items()}
