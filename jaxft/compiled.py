"""The steps of a run, compiled for every declared shape; all are asked for before step 0, and one asked for later is a bug.

They are compiled in the background in the order in which they were asked for, so that training begins as soon as the first
shape that it needs is ready, while the other shapes, evaluation and later stages of the plan are still being compiled.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxft import sharding
from jaxft.data.batches import Planner, Shape, token_type
from jaxft.data.encode import Examples
from jaxft.optim import Optimizer
from jaxft.regularization import Regularization
from jaxft.step import LossFn, Prepare, TrainState, eval_step, train_step
from jaxft.tree import Params

# XLA works on each program with threads of its own, and outside the interpreter's lock. Two cores would be twice as late
# with the first of two programs if they began with both.
_POOL = ThreadPoolExecutor(max_workers=max(1, (os.cpu_count() or 2) // 2), thread_name_prefix="compile")


class Compiled(Mapping[Shape, Any]):
    """Executables by shape. Asking for one waits until it is ready, and raises what any of them failed with so far."""

    def __init__(self, programs: Mapping[Shape, Future[Any]]) -> None:
        self._programs = programs

    def __getitem__(self, shape: Shape) -> Any:
        for program in self._programs.values():
            if program.done():
                program.result()
        return self._programs[shape].result()

    def __iter__(self) -> Iterator[Shape]:
        return iter(self._programs)

    def __len__(self) -> int:
        return len(self._programs)

    def cancel(self) -> None:
        """Compile nothing that has not been begun; a process ends when its programs are done."""
        for program in self._programs.values():
            program.cancel()


def abstract_batch(planner: Planner, shape: Shape, examples: Examples, place: NamedSharding) -> dict[str, Any]:
    """Shapes, types and shardings of a batch."""
    parts = planner.micro_batches
    tokens = (parts, shape.rows // parts, shape.length)
    slots = (parts, shape.rows // parts, shape.slots)
    kinds: dict[str, tuple[tuple[int, ...], Any]] = dict.fromkeys(("segment_ids", "position_ids"), (tokens, np.int32))
    kinds |= {name: ((*tokens, *x.shape[1:]), token_type(x)) for name, x in examples.tokens.items()}
    first = (*slots[:-1], shape.slots * examples.group)
    kinds |= {"first_token": (first, np.int32), "weights": (slots, np.float32), "example": (slots, np.int32)}
    kinds |= {name: ((*slots, *x.shape[1:]), x.dtype) for name, x in examples.columns.items()}
    return {name: jax.ShapeDtypeStruct(s, d, sharding=place) for name, (s, d) in kinds.items()}


def abstract_batches(planner: Planner, examples: Examples, place: NamedSharding) -> dict[Shape, dict[str, Any]]:
    """`abstract_batch` of every declared shape."""
    return {shape: abstract_batch(planner, shape, examples, place) for shape in planner.shapes}


def lower_train(
    loss_fn: LossFn,
    optimizer: Optimizer,
    state: TrainState,
    frozen: Params,
    batch: dict[str, Any],
    prepare: Prepare | None = None,
    regularization: Regularization | None = None,
) -> Any:
    """The train step, (state, frozen, batch) -> (state, metrics), donating the state, of arrays or shapes; not compiled."""
    shardings = jax.tree.map(lambda x: x.sharding, state)
    everywhere = sharding.replicated(jax.tree.leaves(shardings)[0].mesh)
    step = partial(train_step, loss_fn=loss_fn, optimizer=optimizer, prepare=prepare, regularization=regularization)
    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, everywhere)).lower(state, frozen, batch)


def compile_train(
    loss_fn: LossFn,
    optimizer: Optimizer,
    state: TrainState,
    frozen: Params,
    batches: Mapping[Shape, dict[str, Any]],
    say: Callable[[str], None],
    prepare: Prepare | None = None,
    regularization: Regularization | None = None,
) -> Compiled:
    """`lower_train` of every shape, compiled in their order."""
    rest = (prepare, regularization)
    return _compile("train step", lambda b: lower_train(loss_fn, optimizer, state, frozen, b, *rest), batches, say)


def compile_eval(
    loss_fn: LossFn,
    summarise: Any,
    params: Params,
    frozen: Params,
    batches: Mapping[Shape, dict[str, Any]],
    mesh: jax.sharding.Mesh,
    say: Callable[[str], None],
    prepare: Prepare | None = None,
) -> Compiled:
    """The evaluation step for every shape: (params, frozen, batch) -> outputs that every process can read."""
    step = jax.jit(
        partial(eval_step, loss_fn=loss_fn, summarise=summarise, prepare=prepare), out_shardings=sharding.replicated(mesh)
    )
    return _compile("evaluation step", lambda b: step.lower(params, frozen, b), batches, say)


def _compile(
    what: str, lower: Callable[[dict[str, Any]], Any], batches: Mapping[Shape, dict[str, Any]], say: Callable[[str], None]
) -> Compiled:
    def one(shape: Shape, program: Any) -> Any:
        start = time.perf_counter()
        executable = program.compile()
        say(f"compiled {what} {shape.rows} x {shape.length} in {time.perf_counter() - start:.1f} s")
        return executable

    # Tracing depends on settings of this thread.
    programs = {shape: _POOL.submit(one, shape, lower(batch)) for shape, batch in batches.items()}
    # GPUs choose kernels by timing them, beside which nothing may run; processes that talk begin together.
    if jax.default_backend() == "gpu" or jax.process_count() > 1:
        wait(programs.values())
    return Compiled(programs)
