"""Stages of unfreezing inside the optimizer: parameters that are unfrozen later have a separate state."""

from typing import Any

import optax

from jaxft.core import tree
from jaxft.core.tree import Params
from jaxft.param_plan.table import ParameterPlan


def by_stage(core: optax.GradientTransformation, plan: ParameterPlan) -> optax.GradientTransformation:
    """`core` with a separate state for the parameters of each stage, as PyTorch has one for each parameter.

    So bias correction counts from the step at which the parameters of a stage are unfrozen, and the states of earlier stages
    are the same arrays after a stage begins. The state is a tuple, in the order of the stages, that grows at its end.

    Args:
      core: a transformation in which no parameter's update or state depends on other parameters.
      plan: parameter plan of the run.
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
        results: list[tuple[Any, Any]] = [
            core.update(u, s, p) for u, s, p in zip(parts(updates), state, parts(params), strict=True)
        ]
        return tree.combine(*(u for u, _ in results)), tuple(s for _, s in results)

    return optax.GradientTransformation(init, update)
