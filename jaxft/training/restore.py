"""The state of a run as a checkpoint has it."""

from functools import partial

from jaxft.core.tree import Params
from jaxft.run.model_setup import ModelSetup
from jaxft.run.state import fresh_state, frozen_content, run_optimizer
from jaxft.step.stages import later_stages, open_stage
from jaxft.step.train_step import TrainState
from jaxft.training.checkpoint import Checkpoints, Progress


def stored_state(run: ModelSetup, checkpoints: Checkpoints, step: int) -> tuple[TrainState, Params, Progress]:
    """(state, frozen parameters, progress) of a checkpoint, in the stage of the last step before it."""
    state, frozen = fresh_state(run)
    frozen = checkpoints.restore_frozen(frozen, partial(frozen_content, run), step)
    begun = [s for s in run.plan.stages[1:] if s < step]
    for stage in later_stages(run.plan, run_optimizer(run), run.mesh, state, frozen, begun):
        state, frozen = open_stage(run.plan, stage, state, frozen)
    state, progress = checkpoints.restore(step, state)
    return state, frozen, progress
