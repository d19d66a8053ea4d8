"""The optimizer: optax transformations with learning rates and decay from the parameter plan; schedules; clipping."""

from jaxft.optim.optimizer import Hyper, Optimizer, clip_by_global_norm, core, global_norm, hyperparameters, make_optimizer
from jaxft.optim.registry import check_optimizer
from jaxft.optim.schedules import PLATEAU, check_schedules, schedule_factor

__all__ = [
    "PLATEAU",
    "Hyper",
    "Optimizer",
    "check_optimizer",
    "check_schedules",
    "clip_by_global_norm",
    "core",
    "global_norm",
    "hyperparameters",
    "make_optimizer",
    "schedule_factor",
]
