"""The cost of a run's train step in each stage: FLOPs relative to a forward pass, and memory."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxft import optim
from jaxft.core import tree
from jaxft.core.tree import Params
from jaxft.parallel import sharding
from jaxft.preflight import hlo
from jaxft.run.loss import make_loss, run_loss
from jaxft.run.setup import Run
from jaxft.run.state import model_params, run_optimizer, start_shapes
from jaxft.step.compilation import abstract_batches, compile_lowered, lower_train
from jaxft.step.distillation import TEACHER
from jaxft.step.parameters import Parameters
from jaxft.step.stages import later_stages
from jaxft.step.train_step import TrainState, eval_step
from jaxft.step.unused_embeddings import split_unused

MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """The cost of the compiled train step in one stage. Sizes are in bytes per device.

    Attributes:
      start: the first step of the stage.
      flops: FLOPs of the matrix products in a step.
      forward: FLOPs of the matrix products in a forward pass over the same batch.
      expected: sizes that follow from the parameter plan: parameters, optimizer state, gradients, activations kept for the
        backward pass, and the workspace of a forward pass alone.
      arguments, temporary, donated: sizes from XLA's memory analysis; `arguments` includes the embedding rows that only
        evaluation reads, `donated` are arguments that are overwritten by results.
      accessed: a lower bound on the bytes read from and written to memory (`hlo.bytes_accessed`).
      collectives: the communication between devices.
      text: the compiled program as HLO text.
    """

    start: int
    flops: int
    forward: int
    expected: dict[str, int]
    arguments: int
    temporary: int
    donated: int
    accessed: int
    collectives: list[hlo.Collective]
    text: str

    @property
    def expected_peak(self) -> int:
        """The expected peak; activations are freed as gradients appear, so only the largest transient size counts."""
        e = self.expected
        return e["parameters"] + e["optimizer"] + max(e["gradients"], e["activations"], e["forward pass"])


def lines(found: dict[Any, list[Cost]]) -> list[str]:
    """Format the result of `step_costs`, one line per shape and stage."""
    text = []
    for shape, costs in found.items():
        for cost in costs:
            since = f" from step {cost.start}" if len(costs) > 1 else ""
            expected = ", ".join(f"{name} {mib(size)}" for name, size in cost.expected.items())
            text.append(
                f"train step {shape.rows} x {shape.length}{since}: {cost.flops / 1e9:.1f} GFLOP, "
                f"{cost.flops / cost.forward:.2f} forward passes; {expected}; compiled: arguments {mib(cost.arguments)}, "
                f"temporary {mib(cost.temporary)} per device"
            )
    return text


def step_costs(run: Run) -> dict[Any, list[Cost]]:
    """The cost of the train step by batch shape, a list with one entry per stage."""
    optimizer, place = run_optimizer(run), sharding.batch_sharding(run.mesh)
    state, frozen = start_shapes(run)
    later = later_stages(run.plan, optimizer, run.mesh, state, frozen, run.plan.stages[1:])
    teachers = {TEACHER: sharding.shapes(run.mesh, run.teacher[1])} if run.teacher else {}
    every = [(0, state, frozen), *((x.start, x.state, x.frozen) for x in later)]
    stages = [(start, now, replace(rest, teachers=teachers)) for start, now, rest in every]
    params = model_params(state, frozen)
    found: dict[Any, list[Cost]] = {}
    for shape, batch in abstract_batches(run.sampler, run.data["train"].examples, place).items():
        evaluation = _forward(run, params=params, batch=batch)
        forward = hlo.matmul_flops(evaluation.as_text()) * run.sampler.micro_batches  # one micro-batch was compiled
        workspace = {"forward pass": evaluation.memory_analysis().temp_size_in_bytes}
        found[shape] = []
        for start, now, rest in stages:
            compiled = _train(run, optimizer=optimizer, state=now, frozen=rest, batch=batch)
            memory: Any = compiled.memory_analysis()
            text = compiled.as_text()
            found[shape].append(
                Cost(
                    start=start,
                    flops=hlo.matmul_flops(text),
                    forward=forward,
                    expected=expected_memory(now, rest) | {"activations": _activations(run, now, rest, batch)} | workspace,
                    arguments=memory.argument_size_in_bytes + _on_a_device(rest.unused_words.get("embedding")),
                    temporary=memory.temp_size_in_bytes,
                    donated=memory.alias_size_in_bytes,
                    accessed=hlo.bytes_accessed(text),
                    collectives=hlo.collectives(text),
                    text=text,
                )
            )
    return found


def expected_memory(state: TrainState, frozen: Parameters) -> dict[str, int]:
    """Bytes that a step holds besides activations; all gradients exist at once, because they are clipped by global norm."""
    return {
        "parameters": _on_a_device(state.params) + _on_a_device(frozen),
        "optimizer": _on_a_device((state.opt_state, state.average)),
        "gradients": _on_a_device(state.params),
    }


def _activations(run: Run, state: TrainState, frozen: Parameters, batch: Any) -> int:
    """Bytes per device that a forward pass over a micro-batch saves for the backward pass, besides parameters."""
    loss, prepare = run_loss(run), run.task.prepare

    def kept(trained: Params, rest: Parameters, batch: Any, key: jax.Array, hyper: Any) -> Any:
        micro = {name: x[0] for name, x in (prepare(batch, key) if prepare else batch).items()}
        return jax.vjp(lambda p: loss(rest.combined(p), micro, key, hyper)[0][0], trained)[1]

    rest = replace(frozen, reference={})
    found = jax.tree.leaves(jax.eval_shape(kept, state.params, rest, batch, state.key, state.hyper))
    known = {x.shape for x in jax.tree.leaves((state.params, rest))}
    plain = [x for x in found if x.shape not in known and not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return sum(x.size * x.dtype.itemsize for x in plain) // run.mesh.size


def optimizer_memory(run: Run) -> list[int]:
    """Bytes of optimizer state for each row of the parameter plan, summed over all devices."""
    sizes = {
        name: jax.ShapeDtypeStruct(x.shape[tree.is_stacked(path) :], np.float32)
        for path, x in tree.flatten(split_unused(run.model.abstract(), run.used_words)[0]).items()
        for name in tree.names(path)
    }
    build = run_optimizer(run).build(optim.hyperparameters(run.config.optim))
    found = []
    for row in run.plan.rows:
        own = tree.unflatten({tuple(name.split(".")): sizes[name] for name in row.names if row.setting.trainable})
        found.append(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(build.init, own)) if x.ndim))
    return found


def _forward(run: Run, *, params: Parameters, batch: Any) -> Any:
    loss = make_loss(run.model, run.task)
    step = partial(eval_step, loss_fn=loss, summarise=run.task.summarise, prepare=run.task.prepare)
    return compile_lowered(sharding.lower(step, run.mesh, params, batch), "evaluation step")


def _train(run: Run, *, optimizer: optim.Optimizer, state: TrainState, frozen: Parameters, batch: Any) -> Any:
    parts = (run_loss(run), optimizer, state, frozen, batch, run.task.prepare, run.regularization)
    return compile_lowered(lower_train(*parts), "train step")


def _on_a_device(arrays: Any) -> int:
    def size(x: Any) -> int:
        place = getattr(x, "sharding", None)  # None: the array has no sharding yet
        count = int(np.prod(place.shard_shape(x.shape) if place else x.shape))
        return 0 if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else count * x.dtype.itemsize

    return sum(map(size, jax.tree.leaves(arrays)))


def mib(size: float) -> str:
    """Format a size in bytes as MiB."""
    return f"{size / MIB:.1f} MiB" if size < 10 * MIB else f"{size / MIB:,.0f} MiB"
