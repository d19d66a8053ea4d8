"""Learning rate schedules, as fractions of the peak learning rate by step."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxft.config import OptimConfig
from jaxft.core.errors import UserError
from jaxft.param_plan import ParameterPlan

PLATEAU = "plateau"


def schedule_factor(
    config: OptimConfig, total_steps: int, numpy: Any = jnp, *, name: str | None = None
) -> Callable[[Any], Any]:
    """Makes a schedule with linear warm-up, equal to Hugging Face's `get_scheduler` for the schedules that it has.

    Args:
      config: the schedule, its parameters, and warm-up.
      total_steps: steps of the run.
      numpy: `jax.numpy` inside a program, `numpy` on the host, where logging must not wait for a device.
      name: the schedule; None means the config's. `plateau` is 1 after warm-up, since its factor depends on evaluations.

    Returns:
      A function from the number of finished steps (int [...]) to the fraction of the peak learning rate (float32 [...]).
    """
    name = name or config.schedule
    # Floats, since the number of steps may exceed int32.
    warmup, total = float(warmup_steps(config, total_steps)), float(total_steps)

    def falling(step: Any, progress: Any) -> Any:
        """`progress` goes from 0 at the end of warm-up to 1 at the last step."""
        match name:
            case "linear":
                return 1.0 - progress
            case "cosine":
                return 0.5 * (1.0 + numpy.cos(numpy.pi * progress))
            case "cosine_restarts":
                turn = (config.cycles * progress) % 1.0
                return numpy.where(progress < 1.0, 0.5 * (1.0 + numpy.cos(numpy.pi * turn)), 0.0)
            case "polynomial":
                return (1.0 - config.end_factor) * (1.0 - progress) ** config.power + config.end_factor
            case "inverse_sqrt":
                timescale = warmup or 10_000.0  # Hugging Face's default without warm-up
                return 1.0 / numpy.sqrt(numpy.maximum(step - warmup + timescale, 1.0) / timescale)
            case "slanted_triangular":
                return (1.0 + (1.0 - progress) * (config.ratio - 1.0)) / config.ratio
            case _:
                return numpy.ones_like(progress)

    def factor(step: Any) -> Any:
        step = numpy.asarray(step, numpy.float32)
        progress = numpy.clip((step - warmup) / max(1.0, total - warmup), 0.0, 1.0)
        rising = step / max(1.0, warmup)
        if name == "slanted_triangular":  # ULMFiT's rises from the same low learning rate that it falls to
            rising = (1.0 + rising * (config.ratio - 1.0)) / config.ratio
        return numpy.where(step < warmup, rising, falling(step, progress))

    return factor


def check_schedules(config: OptimConfig, plan: ParameterPlan) -> None:
    """Raises a UserError if a rule has the schedule plateau but the run has not."""
    for name, setting in plan.settings.items():
        if setting.schedule == PLATEAU != config.schedule:
            raise UserError(f"schedule plateau of {name}: only if optim.schedule is plateau, too")


def warmup_steps(config: OptimConfig, total_steps: int) -> int:
    """The number of warm-up steps."""
    return math.ceil(config.warmup * total_steps) if config.warmup < 1 else int(config.warmup)
