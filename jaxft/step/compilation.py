"""The steps of a run, compiled for every declared shape; all are asked for before step 0, and one asked for later is a bug.

They are compiled in the background in the order in which they were asked for, so that training begins as soon as the first
shape that it needs is ready, while the other shapes, evaluation and later stages of the plan are still being compiled.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxft.core.errors import UserError
from jaxft.core.progress import announced
from jaxft.data.batching.batch_sampler import BatchSampler, Shape, token_type
from jaxft.data.tokens.encode import Examples
from jaxft.optim import Optimizer
from jaxft.parallel import sharding
from jaxft.step.multi_step import MultiStep
from jaxft.step.parameters import Parameters
from jaxft.step.regularization import Regularization
from jaxft.step.train_step import LossFn, Prepare, TrainState, eval_step, train_step, train_steps

# XLA works on each program with threads of its own, and outside the interpreter's lock. Two cores would be twice as late
# with the first of two programs if they began with both.
_POOL = ThreadPoolExecutor(max_workers=max(1, (os.cpu_count() or 2) // 2), thread_name_prefix="compile")


K = TypeVar("K", Shape, MultiStep)


class Compiled(Mapping[K, Any]):
    """Executables by what they take. Asking for one waits until it is ready, and raises what any has failed with so far."""

    def __init__(self, programs: Mapping[K, Future[Any]]) -> None:
        self._programs = programs

    def __getitem__(self, key: K) -> Any:
        for program in self._programs.values():
            if program.done():
                program.result()
        return self._programs[key].result()

    def __contains__(self, key: object) -> bool:
        return key in self._programs  # without waiting for it

    def __iter__(self) -> Iterator[K]:
        return iter(self._programs)

    def __len__(self) -> int:
        return len(self._programs)

    @property
    def done(self) -> bool:
        """Whether nothing is left to compile."""
        return all(program.done() for program in self._programs.values())

    def also(self, others: "Compiled[K]") -> "Compiled[K]":
        """These and others."""
        return Compiled({**self._programs, **others._programs})

    def cancel(self) -> None:
        """Compile nothing that has not been begun; a process ends when its programs are done."""
        for program in self._programs.values():
            program.cancel()


def abstract_batch(
    sampler: BatchSampler, shape: Shape, examples: Examples, place: NamedSharding, steps: int = 1
) -> dict[str, Any]:
    """Shapes, types and shardings of the batches of so many steps."""
    rows = shape.rows // sampler.micro_batches
    tokens = (steps * sampler.micro_batches, rows, shape.length)
    slots = (*tokens[:2], shape.slots)
    kinds: dict[str, tuple[tuple[int, ...], Any]] = dict.fromkeys(("segment_ids", "position_ids"), (tokens, np.int32))
    kinds |= {name: ((*tokens, *x.shape[1:]), token_type(x)) for name, x in examples.tokens.items()}
    first = (*slots[:-1], shape.slots * examples.group)
    kinds |= {"first_token": (first, np.int32), "weights": (slots, np.float32), "example": (slots, np.int32)}
    kinds |= {name: ((*slots, *x.shape[1:]), x.dtype) for name, x in examples.columns.items()}
    return {name: jax.ShapeDtypeStruct(s, d, sharding=place) for name, (s, d) in kinds.items()}


def abstract_batches(sampler: BatchSampler, examples: Examples, place: NamedSharding) -> dict[Shape, dict[str, Any]]:
    """`abstract_batch` of every declared shape."""
    return {shape: abstract_batch(sampler, shape, examples, place) for shape in sampler.shapes}


def lower_train(
    loss_fn: LossFn,
    optimizer: Optimizer,
    state: TrainState,
    frozen: Parameters,
    batch: dict[str, Any],
    prepare: Prepare | None = None,
    regularization: Regularization | None = None,
    steps: int = 1,
) -> Any:
    """The train step, (state, frozen, batch) -> (state, metrics), donating the state, of arrays or shapes; not compiled.

    Of several steps it is `train_steps`.
    """
    shardings = jax.tree.map(lambda x: x.sharding, state)
    mesh = jax.tree.leaves(shardings)[0].mesh
    single_or_more = partial(train_steps, steps=steps) if steps > 1 else train_step
    step = partial(single_or_more, loss_fn=loss_fn, optimizer=optimizer, prepare=prepare, regularization=regularization)
    places = (shardings, sharding.replicated(mesh))
    return sharding.lower(step, mesh, state, frozen, batch, donate_argnums=0, out_shardings=places)


def finished(program: Any, name: str) -> Any:
    """A lowered program compiled.

    Raises:
      UserError: when its compiler says that it does not fit the device, as those of TPUs do.
    """
    try:
        return program.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).partition("RESOURCE_EXHAUSTED:")[2].strip().partition("\n")[0]
        raise UserError(
            f"the {name} does not fit the device: {reason} Fewer rows at once (train.batch_size, train.micro_batches), "
            "shorter ones (data.max_length), parameters split over devices (mesh.fsdp) and train.dtype bfloat16 take less"
        ) from error


def compile_train(
    loss_fn: LossFn,
    optimizer: Optimizer,
    state: TrainState,
    frozen: Parameters,
    batches: Mapping[MultiStep, dict[str, Any]],
    say: Callable[[str], None],
    prepare: Prepare | None = None,
    regularization: Regularization | None = None,
) -> Compiled[MultiStep]:
    """`lower_train` of every call, compiled in their order."""

    def lower(call: MultiStep) -> Any:
        return lower_train(loss_fn, optimizer, state, frozen, batches[call], prepare, regularization, call.steps)

    names = {call: f"train step {size_of(call.shape)}{f', {call.steps} at once,' * (call.steps > 1)}" for call in batches}
    return _compile(lower, names, say)


def compile_eval(
    loss_fn: LossFn,
    summarise: Any,
    params: Parameters,
    batches: Mapping[Shape, dict[str, Any]],
    mesh: jax.sharding.Mesh,
    say: Callable[[str], None],
    prepare: Prepare | None = None,
) -> Compiled[Shape]:
    """The evaluation step for every shape: (params, batch) -> outputs that every process can read."""
    step = partial(eval_step, loss_fn=loss_fn, summarise=summarise, prepare=prepare)
    names = {shape: f"evaluation step {size_of(shape)}" for shape in batches}
    everywhere = sharding.replicated(mesh)
    return _compile(lambda shape: sharding.lower(step, mesh, params, batches[shape], out_shardings=everywhere), names, say)


def size_of(shape: Shape) -> str:
    """For people."""
    return f"{shape.rows} x {shape.length}"


def _compile(lower: Callable[[K], Any], names: Mapping[K, str], say: Callable[[str], None]) -> Compiled[K]:
    def one(name: str, program: Any) -> Any:
        start = time.perf_counter()
        with announced(f"compiling {name}", say):
            executable = finished(program, name)
        say(f"compiled {name} in {time.perf_counter() - start:.1f} s")
        return executable

    # GPUs choose kernels by timing them, beside which nothing may run; processes that talk begin together.
    alone = jax.default_backend() == "gpu" or jax.process_count() > 1
    programs: dict[K, Future[Any]] = {}
    for key, name in names.items():
        programs[key] = _POOL.submit(one, name, lower(key))  # tracing depends on settings of this thread
        if alone:
            wait([programs[key]])
    return Compiled(programs)
