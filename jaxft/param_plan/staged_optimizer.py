"""Stages inside the optimizer: the state of what begins to be trained later is kept by itself."""

from typing import Any

import optax

from jaxft.core import tree
from jaxft.core.tree import Params
from jaxft.param_plan.table import ParameterPlan


def by_stage(core: optax.GradientTransformation, plan: ParameterPlan) -> optax.GradientTransformation:
    """`core` with a state of its own for the parameters of each stage, as PyTorch has one for each parameter.

    Its bias correction so counts from the step at which they begin to be trained, and the states of the stages before are
    the same arrays after a stage opens. The state is a tuple, in the order of the stages, that grows at its end.

    Args:
      core: what an optimizer keeps of each parameter; nothing in it may depend on other parameters.
      plan: of the run.
    """
    if len(plan.stages) == 1:
        return core

    def parts(params: Params) -> list[Params]:
        flat = tree.flatten(params)
        groups = [{path: x for path, x in flat.items() if plan.of(path).unfreeze == start} for start in plan.stages]
        return [tree.unflatten(group) for group in groups if group]

    def init(params: Any) -> Any:
        return tuple(core.init(part) for part in parts(params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        done: list[tuple[Any, Any]] = [
            core.update(u, s, p) for u, s, p in zip(parts(updates), state, parts(params), strict=True)
        ]
        return tree.combine(*(u for u, _ in done)), tuple(s for _, s in done)

    return optax.GradientTransformation(init, update)
