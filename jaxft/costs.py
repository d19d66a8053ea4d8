"""What a run's train step costs in each stage of its plan: FLOPs against a forward pass, and memory."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxft import optim, sharding, tree
from jaxft.compiled import abstract_batches
from jaxft.distill import NAME, TEACHERS
from jaxft.loop import fresh_state, run_optimizer
from jaxft.setup import Run, make_loss, run_loss
from jaxft.stages import later_stages
from jaxft.step import TrainState, eval_step, train_step
from jaxft.tree import Params

MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """Of the compiled train step in one stage; sizes in bytes, on each device.

    Attributes:
      start: the first step of the stage.
      flops: of a step (of one micro-batch, where there are several).
      forward: of a forward pass over the same.
      expected: of parameters, optimizer and gradients, as the plan has it.
      arguments, temporary: what the compiler says.
    """

    start: int
    flops: float
    forward: float
    expected: dict[str, int]
    arguments: int
    temporary: int


def lines(run: Run) -> list[str]:
    """For people."""
    text = []
    for shape, costs in step_costs(run).items():
        for cost in costs:
            since = f" from step {cost.start}" if len(costs) > 1 else ""
            expected = ", ".join(f"{name} {_mib(size)}" for name, size in cost.expected.items())
            text.append(
                f"train step {shape.rows} x {shape.length}{since}: {cost.flops / 1e9:.1f} GFLOP, "
                f"{cost.flops / cost.forward:.2f} forward passes; {expected}; compiled: arguments {_mib(cost.arguments)}, "
                f"temporary {_mib(cost.temporary)} a device"
            )
    return text


def step_costs(run: Run) -> dict[Any, list[Cost]]:
    """By batch shape, for every stage of the plan."""
    optimizer, place = run_optimizer(run), sharding.batch_sharding(run.mesh)
    state, frozen = fresh_state(run)
    later = later_stages(run.plan, optimizer, run.mesh, state, frozen, run.plan.stages[1:])
    stages = [(0, state, frozen), *((x.start, x.state, x.frozen) for x in later)]
    taught = {TEACHERS: {NAME: run.teacher[1]}} if run.teacher else {}
    # The compiler counts the body of a loop once, so FLOPs are counted where there is no loop over layers.
    depth = run.model.encoder.config.num_layers
    plain = replace(run, model=replace(run.model, policy=replace(run.model.policy, unroll=depth)))
    looped = run.model.policy.unroll < depth
    found: dict[Any, list[Cost]] = {}
    for shape, batch in abstract_batches(run.planner, run.data["train"].examples, place).items():
        forward = _flops(_forward(plain, tree.combine(state.params, frozen), batch))
        found[shape] = []
        for start, now, rest in stages:
            compiled = _train(run, optimizer, now, {**rest, **taught}, batch)
            flops = _flops(_train(plain, optimizer, now, {**rest, **taught}, batch) if looped else compiled)
            memory: Any = compiled.memory_analysis()
            sizes = (memory.argument_size_in_bytes, memory.temp_size_in_bytes)
            found[shape].append(Cost(start, flops, forward, expected_memory(now, {**rest, **taught}), *sizes))
    return found


def expected_memory(state: TrainState, frozen: Params) -> dict[str, int]:
    """Bytes of what a step holds beside activations; gradients are all there at once, because they are clipped together."""
    return {
        "parameters": _on_a_device(state.params) + _on_a_device(frozen),
        "optimizer": _on_a_device(state.opt_state),
        "gradients": _on_a_device(state.params),
    }


def optimizer_memory(run: Run) -> list[str]:
    """What the optimizer keeps of each row of the plan, over all devices."""
    sizes = {
        name: jax.ShapeDtypeStruct(x.shape[tree.is_stacked(path) :], np.float32)
        for path, x in tree.flatten(run.model.abstract()).items()
        for name in tree.names(path)
    }
    build = run_optimizer(run).build(optim.hyperparameters(run.config.optim))
    texts = []
    for row in run.plan.rows:
        held = jax.eval_shape(build.init, {name: sizes[name] for name in row.names}) if row.setting.trainable else []
        texts.append(_mib(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(held) if x.ndim)) if held else "-")
    return texts


def _forward(run: Run, params: Params, batch: Any) -> Any:
    loss = make_loss(run.model, run.task)
    step = jax.jit(partial(eval_step, loss_fn=loss, summarise=run.task.summarise, prepare=run.task.prepare))
    return step.lower(params, {}, batch).compile()


def _train(run: Run, optimizer: optim.Optimizer, state: TrainState, frozen: Params, batch: Any) -> Any:
    step = partial(train_step, loss_fn=run_loss(run), optimizer=optimizer, prepare=run.task.prepare)
    return jax.jit(step, donate_argnums=0).lower(state, frozen, batch).compile()


def _flops(compiled: Any) -> float:
    return (compiled.cost_analysis() or {}).get("flops", float("nan"))


def _on_a_device(arrays: Any) -> int:
    def size(x: Any) -> int:
        place = getattr(x, "sharding", None)  # None: a shape that nobody has placed yet
        count = int(np.prod(place.shard_shape(x.shape) if place else x.shape))
        return 0 if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else count * x.dtype.itemsize

    return sum(map(size, jax.tree.leaves(arrays)))


def _mib(size: float) -> str:
    return f"{size / MIB:.1f} MiB" if size < 10 * MIB else f"{size / MIB:,.0f} MiB"
