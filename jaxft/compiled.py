"""The steps of a run, compiled for every declared shape before step 0; a compilation later would be a bug."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxft import sharding
from jaxft.data.batches import Planner, Shape
from jaxft.data.encode import Examples
from jaxft.optim import Optimizer
from jaxft.regularization import Regularization
from jaxft.step import LossFn, Prepare, TrainState, eval_step, train_step
from jaxft.tree import Params

Compiled = Mapping[Shape, Any]


def abstract_batch(planner: Planner, shape: Shape, examples: Examples, place: NamedSharding) -> dict[str, Any]:
    """Shapes, types and shardings of a batch."""
    parts = planner.micro_batches
    tokens = (parts, shape.rows // parts, shape.length)
    slots = (parts, shape.rows // parts, shape.slots)
    kinds: dict[str, tuple[tuple[int, ...], Any]] = dict.fromkeys(
        (*examples.tokens, "segment_ids", "position_ids"), (tokens, np.int32)
    )
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
    """`lower_train` of every shape, compiled."""
    lowered = {s: lower_train(loss_fn, optimizer, state, frozen, b, prepare, regularization) for s, b in batches.items()}
    return _compile("train step", lowered, say)


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
    return _compile("evaluation step", {s: step.lower(params, frozen, b) for s, b in batches.items()}, say)


def _compile(what: str, lowered: Mapping[Shape, Any], say: Callable[[str], None]) -> Compiled:
    def one(item: tuple[Shape, Any]) -> tuple[Shape, Any]:
        shape, program = item
        start = time.perf_counter()
        executable = program.compile()
        say(f"compiled {what} {shape.rows} x {shape.length} in {time.perf_counter() - start:.1f} s")
        return shape, executable

    with ThreadPoolExecutor() as pool:  # XLA compiles outside the interpreter's lock
        return dict(pool.map(one, lowered.items()))
