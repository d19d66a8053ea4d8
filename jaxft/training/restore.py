"""The state of a run as a checkpoint has it.

It is restored onto shapes: beside what is read, no second copy of parameters and moments is ever in memory.
"""

from dataclasses import replace
from functools import partial

from jaxft.core import tree
from jaxft.run.model_setup import ModelSetup
from jaxft.run.state import fresh_frozen, frozen_content, run_optimizer, start_shapes, with_constants
from jaxft.step.parameters import Parameters
from jaxft.step.stages import stage_shapes
from jaxft.step.train_step import TrainState
from jaxft.training.checkpoint import Checkpoints, Progress


def stored_state(run: ModelSetup, checkpoints: Checkpoints, step: int) -> tuple[TrainState, Parameters, Progress]:
    """(state, frozen parameters, progress) of a checkpoint, in the stage of the last step before it."""
    state, at_start = start_shapes(run)
    rest, optimizer = at_start, run_optimizer(run)
    for start in [s for s in run.plan.stages[1:] if s < step]:
        state, rest = stage_shapes(run.plan, optimizer, run.mesh, state, rest, start)
    whole = checkpoints.restore_frozen(at_start, partial(fresh_frozen, run), partial(frozen_content, run), step)
    frozen = replace(whole, model=tree.partition(whole.model, tree.flatten(rest.model).__contains__)[0])
    del whole  # what is trained by now is in the checkpoint
    state, progress = checkpoints.restore(step, with_constants(run, state))
    return state, frozen, progress
