"""Compiles the steps of a run for every declared shape.

All programs are requested before step 0; a program requested later is a bug. They are compiled in the background in the
order of the requests, so training begins as soon as the program of its first batch is ready, while those of other shapes,
evaluation and later stages are still being compiled.
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
from jaxft.core.phases import COMPILING, phase
from jaxft.core.progress import announced
from jaxft.core.signals import nothing
from jaxft.core.uninterruptible import uninterruptible
from jaxft.data.batching.batch_sampler import BatchSampler, Shape, token_type
from jaxft.data.tokens.encode import Examples
from jaxft.optim import Optimizer
from jaxft.parallel import sharding
from jaxft.step.multi_step import MultiStep
from jaxft.step.parameters import Parameters
from jaxft.step.regularization import Regularization
from jaxft.step.train_step import LossFn, Prepare, TrainState, eval_step, train_step, train_steps

# XLA compiles each program with several threads and without the GIL. Two programs at a time on two cores would delay the
# first one, which training waits for, by a factor of two.
_POOL = ThreadPoolExecutor(max_workers=max(1, (os.cpu_count() or 2) // 2), thread_name_prefix="compile")

OFTEN = 0.5  # seconds between two looks at a program that is being compiled

K = TypeVar("K", Shape, MultiStep)


class Compiled(Mapping[K, Any]):
    """Compiled programs by shape. Getting one waits until it is ready, and raises the error of any that has failed."""

    def __init__(self, programs: Mapping[K, Future[Any]]) -> None:
        self._programs = programs

    def __getitem__(self, key: K) -> Any:
        return self.ready(key)

    def ready(self, key: K, check: Callable[[], None] = nothing) -> Any:
        """The program of a shape; `check` is called again and again while it is being compiled."""
        for program in self._programs.values():
            if program.done():
                program.result()
        if not (wanted := self._programs[key]).done():
            done = sum(program.done() for program in self._programs.values())
            with phase(COMPILING, f"{done + 1} of {len(self)}"):
                while not wait([wanted], OFTEN).done:
                    check()
        return wanted.result()

    def __contains__(self, key: object) -> bool:
        return key in self._programs  # without waiting for it

    def __iter__(self) -> Iterator[K]:
        return iter(self._programs)

    def __len__(self) -> int:
        return len(self._programs)

    @property
    def done(self) -> bool:
        """Whether all programs are compiled."""
        return all(program.done() for program in self._programs.values())

    def merged(self, others: "Compiled[K]") -> "Compiled[K]":
        """These programs and the others."""
        return Compiled({**self._programs, **others._programs})

    def cancel(self) -> None:
        """Cancel the programs whose compilation has not begun; the process ends once the others are done."""
        for program in self._programs.values():
            program.cancel()


def abstract_batch(
    sampler: BatchSampler, shape: Shape, examples: Examples, batch_sharding: NamedSharding, steps: int = 1
) -> dict[str, Any]:
    """Shapes, dtypes and shardings of the arrays [steps * K, R, ...] for a call of this number of steps."""
    rows = shape.rows // sampler.micro_batches
    tokens = (steps * sampler.micro_batches, rows, shape.length)
    slots = (*tokens[:2], shape.slots)
    first_tokens = (*tokens[:2], shape.slots * examples.group)
    kinds: dict[str, tuple[tuple[int, ...], Any]] = dict.fromkeys(("segment_ids", "position_ids"), (tokens, np.int32))
    kinds |= {name: ((*tokens, *x.shape[1:]), token_type(x)) for name, x in examples.tokens.items()}
    kinds |= {"first_token": (first_tokens, np.int32), "weights": (slots, np.float32), "example": (slots, np.int32)}
    kinds |= {name: ((*slots, *x.shape[1:]), x.dtype) for name, x in examples.columns.items()}
    return {name: jax.ShapeDtypeStruct(s, d, sharding=batch_sharding) for name, (s, d) in kinds.items()}


def abstract_batches(
    sampler: BatchSampler, examples: Examples, batch_sharding: NamedSharding
) -> dict[Shape, dict[str, Any]]:
    """`abstract_batch` of every declared shape."""
    return {shape: abstract_batch(sampler, shape, examples, batch_sharding) for shape in sampler.shapes}


def lower_train(
    loss_fn: LossFn,
    optimizer: Optimizer,
    state: TrainState,
    frozen: Parameters,
    batch: dict[str, Any],
    prepare: Prepare | None = None,
    regularization: Regularization | None = None,
    steps: int = 1,
    *,
    needs_all_rows: bool = False,
) -> Any:
    """The lowered train step, (state, frozen, batch) -> (state, metrics), which donates the state.

    The arguments are arrays or shapes with shardings. With several `steps` it is `train_steps`;
    the other arguments are its own.
    """
    shardings = jax.tree.map(lambda x: x.sharding, state)
    mesh = jax.tree.leaves(shardings)[0].mesh
    function = partial(train_steps, steps=steps) if steps > 1 else train_step
    parts = {"prepare": prepare, "regularization": regularization, "needs_all_rows": needs_all_rows}
    step = partial(function, loss_fn=loss_fn, optimizer=optimizer, **parts)
    out_shardings = (shardings, sharding.replicated(mesh))
    return sharding.lower(step, mesh, state, frozen, batch, donate_argnums=0, out_shardings=out_shardings)


def compile_lowered(program: Any, name: str) -> Any:
    """Compile a lowered program.

    Raises:
      UserError: when the compiler reports that the program does not fit the device (TPU compilers do).
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
    lower: Callable[..., Any], batches: Mapping[MultiStep, dict[str, Any]], say: Callable[[str], None]
) -> Compiled[MultiStep]:
    """Compile the train step for the batches of every `MultiStep`, in their order.

    `lower` is `lower_train` as a function of the batch and the number of `steps`.
    """
    names = {call: f"train step {size_of(call.shape)}{f', {call.steps} at once,' * (call.steps > 1)}" for call in batches}
    return _compile(lambda call: lower(batches[call], steps=call.steps), names, say)


def compile_eval(
    loss_fn: LossFn,
    summarise: Any,
    params: Parameters,
    batches: Mapping[Shape, dict[str, Any]],
    mesh: jax.sharding.Mesh,
    say: Callable[[str], None],
    prepare: Prepare | None = None,
) -> Compiled[Shape]:
    """Compile the evaluation step for every shape: (params, batch) -> outputs that every process can read."""
    step = partial(eval_step, loss_fn=loss_fn, summarise=summarise, prepare=prepare)
    names = {shape: f"evaluation step {size_of(shape)}" for shape in batches}
    everywhere = sharding.replicated(mesh)
    return _compile(lambda shape: sharding.lower(step, mesh, params, batches[shape], out_shardings=everywhere), names, say)


def size_of(shape: Shape) -> str:
    """Rows x length, for the log."""
    return f"{shape.rows} x {shape.length}"


def _compile(lower: Callable[[K], Any], names: Mapping[K, str], say: Callable[[str], None]) -> Compiled[K]:
    def compile_one(name: str, program: Any) -> Any:
        start = time.perf_counter()
        with announced(f"compiling {name}", say), uninterruptible():
            executable = compile_lowered(program, name)
        say(f"compiled {name} in {time.perf_counter() - start:.1f} s")
        return executable

    # GPUs choose kernels by timing them, so nothing else may run meanwhile; several processes must compile in step.
    alone = jax.default_backend() == "gpu" or jax.process_count() > 1
    programs: dict[K, Future[Any]] = {}
    for number, (key, name) in enumerate(names.items(), 1):
        with phase(COMPILING, f"{number} of {len(names)}"):
            # Lowering traces in this thread, because it depends on its settings (mesh, precision).
            programs[key] = _POOL.submit(compile_one, name, lower(key))
            if alone:
                wait([programs[key]])
    return Compiled(programs)
