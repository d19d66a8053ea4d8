"""The cost of a run's train step in each stage: FLOPs relative to a forward pass, and memory."""

from collections.abc import Iterable
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
from jaxft.run.loss import make_loss, needs_all_rows, run_loss, run_prepare
from jaxft.run.setup import Run
from jaxft.run.state import model_params, run_optimizer, start_shapes
from jaxft.step.compilation import abstract_batches, compile_lowered, lower_train
from jaxft.step.parameters import Parameters
from jaxft.step.stages import later_stages
from jaxft.step.train_step import STEP, LossFn, TrainState, eval_step
from jaxft.step.unused_embeddings import split_unused
from jaxft.teacher_cache.choice import choose, like_outputs

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
            stage = f" from step {cost.start}" if len(costs) > 1 else ""
            expected = ", ".join(f"{name} {mib(size)}" for name, size in cost.expected.items())
            text.append(
                f"train step {shape.rows} x {shape.length}{stage}: {cost.flops / 1e9:.1f} GFLOP, "
                f"{cost.flops / cost.forward:.2f} forward passes; {expected}; compiled: arguments {mib(cost.arguments)}, "
                f"temporary {mib(cost.temporary)} per device"
            )
    return text


def step_costs(run: Run, *, forward_pass: bool = True) -> dict[Any, list[Cost]]:
    """The costs of the train step by batch shape, one for each stage.

    Without `forward_pass`, a forward pass alone is not compiled, and what is known of it is 0.
    """
    optimizer = run_optimizer(run)
    state, frozen = start_shapes(run)
    later = later_stages(run.plan, optimizer, run.mesh, state, frozen, run.plan.stages[1:])
    stages = [(0, state, frozen), *((x.start, x.state, x.frozen) for x in later)]
    teaching = choose(run)
    teachers = {x.key: sharding.shapes(run.mesh, x.params) for x in run.teachers if x.key not in teaching.stored}
    task, loss = run.task, make_loss(run.model, run.task)
    prepare, with_teacher = run_prepare(run), run_loss(run, teaching.stored)
    evaluate = partial(eval_step, loss_fn=loss, summarise=task.summarise, prepare=prepare)
    found: dict[Any, list[Cost]] = {}
    examples = like_outputs(run.prototype, teaching.stored)
    batches = abstract_batches(run.sampler, examples, sharding.batch_sharding(run.mesh))
    for shape, batch in batches.items():
        forward = workspace = 0
        if forward_pass:
            lowered = sharding.lower(evaluate, run.mesh, model_params(state, frozen), batch)
            evaluation = compile_lowered(lowered, "evaluation step")
            forward = hlo.matmul_flops(evaluation.as_text()) * run.sampler.micro_batches  # one micro-batch was compiled
            workspace = evaluation.memory_analysis().temp_size_in_bytes
        found[shape] = []
        for start, trained, others in stages:
            rest = replace(others, teachers=teachers)
            parts = {"regularization": run.regularization, "needs_all_rows": needs_all_rows(run)}
            train = lower_train(with_teacher, optimizer, trained, rest, batch, prepare, **parts)
            compiled = compile_lowered(train, "train step")
            text, memory = compiled.as_text(), compiled.memory_analysis()
            activations = {"activations": _activations(run, with_teacher, trained, rest, batch), "forward pass": workspace}
            found[shape].append(
                Cost(
                    start=start,
                    flops=hlo.matmul_flops(text),
                    forward=forward,
                    expected=expected_memory(trained, rest) | activations,
                    arguments=memory.argument_size_in_bytes + _bytes_per_device(rest.unused_words.get("embedding")),
                    temporary=memory.temp_size_in_bytes,
                    donated=memory.alias_size_in_bytes,
                    accessed=hlo.bytes_accessed(text),
                    collectives=hlo.collectives(text),
                    text=text,
                )
            )
    return found


def expected_memory(state: TrainState, frozen: Parameters) -> dict[str, int]:
    """Bytes per device besides activations; all gradients exist at once, because they are clipped by global norm."""
    return {
        "parameters": _bytes_per_device((state.params, frozen)),
        "optimizer": _bytes_per_device((state.opt_state, state.average)),
        "gradients": _bytes_per_device(state.params),
    }


def _activations(run: Run, loss: LossFn, state: TrainState, frozen: Parameters, batch: Any) -> int:
    """Bytes per device that a forward pass over a micro-batch saves for the backward pass, besides parameters."""
    prepare = run_prepare(run)

    def residuals(trained: Params, rest: Parameters, batch: Any, key: jax.Array, hyper: Any, step: Any) -> Any:
        micro_batch = {name: x[0] for name, x in prepare(batch, key).items()}
        return jax.vjp(lambda p: loss(rest.combined(p), micro_batch, key, hyper | {STEP: step})[0][0], trained)[1]

    rest = replace(frozen, reference={})
    saved = jax.tree.leaves(jax.eval_shape(residuals, state.params, rest, batch, state.key, state.hyper, state.step))
    parameters = {x.shape for x in jax.tree.leaves((state.params, rest))}
    others = [x for x in saved if x.shape not in parameters and not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return sum(x.size * x.dtype.itemsize for x in others) // run.mesh.size


def optimizer_memory(run: Run) -> list[int]:
    """Bytes of optimizer state for each row of the parameter plan, summed over all devices."""
    everything = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), run.params)
    shapes = {
        name: jax.ShapeDtypeStruct(x.shape[tree.is_stacked(path) :], np.float32)
        for path, x in tree.flatten(split_unused(everything, run.used_words)[0]).items()
        for name in tree.names(path)
    }
    optimizer = run_optimizer(run).build(optim.hyperparameters(run.config.optim))

    def memory(names: Iterable[str]) -> int:
        own = tree.unflatten({tuple(name.split(".")): shapes[name] for name in names})
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(optimizer.init, own)) if x.ndim)

    return [memory(row.names if row.setting.trainable else ()) for row in run.plan.rows]


def _bytes_per_device(arrays: Any) -> int:
    def size(x: Any) -> int:
        own = getattr(x, "sharding", None)  # None: the array has no sharding yet
        count = int(np.prod(own.shard_shape(x.shape) if own else x.shape))
        return 0 if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else count * x.dtype.itemsize

    return sum(map(size, jax.tree.leaves(arrays)))


def mib(size: float) -> str:
    """Format a size in bytes as MiB."""
    return f"{size / MIB:.1f} MiB" if size < 10 * MIB else f"{size / MIB:,.0f} MiB"
