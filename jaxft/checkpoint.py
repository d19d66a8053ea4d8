"""Checkpoints of a run, kept by orbax: asynchronous, atomic, the latest few and the best one.

This is the one file that knows orbax. A checkpoint holds the trainable parameters, their moments, the step and the
`Progress` of the run; what is frozen is written once, in `frozen/`.
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from jaxft.errors import UserError, one_line
from jaxft.step import TrainState

FOLDER = "checkpoints"
FROZEN = "frozen"


@dataclass(frozen=True)
class Progress:
    """Where a run stands beside its arrays; enough to go on exactly.

    Attributes:
      best_step, best_score: of the best evaluation so far.
      bad_evaluations: evaluations since then.
      stopped: early stopping has ended the run.
      plateau, plateau_bad: what reduction on plateau has left of the learning rate, and bad evaluations since it looked.
    """

    best_step: int | None = None
    best_score: float | None = None
    bad_evaluations: int = 0
    stopped: bool = False
    plateau: float = 1.0
    plateau_bad: int = 0


class Checkpoints:
    """The checkpoints of one run directory."""

    def __init__(self, directory: Path, *, keep: int) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._best: int | None = None
        self._copies: dict[Any, Callable[[Any], Any]] = {}
        self._directory = directory
        policies = ocp.checkpoint_managers.AnyPreservationPolicy([ocp.checkpoint_managers.LatestN(keep), _OneStep(self)])
        self._manager = self._guarded(
            lambda: ocp.CheckpointManager(
                (directory / FOLDER).absolute(),
                item_names=("state", "progress"),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=policies, cleanup_tmp_directories=True, enable_async_checkpointing=True
                ),
            )
        )

    def prepare(self, state: TrainState) -> Callable[[Any], Any]:
        """Compile what saving needs for a state like this (arrays or shapes), before training begins."""
        arrays = _arrays(state)
        copy = jax.jit(partial(jax.tree.map, jnp.copy), out_shardings=jax.tree.map(lambda x: x.sharding, arrays))
        self._copies[jax.tree.structure(arrays)] = compiled = copy.lower(arrays).compile()
        return compiled

    def latest(self) -> int | None:
        """The newest complete checkpoint's step."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Steps of all complete checkpoints."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, progress: Progress) -> None:
        """Start writing a checkpoint; returns once the arrays are safe from the next step's donation."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self._best = progress.best_step
        # On CPU orbax would read the very buffers that the next step is given to overwrite.
        copy = self._copies.get(jax.tree.structure(_arrays(state))) or self.prepare(state)
        arrays = copy(_arrays(state))
        self._guarded(
            lambda: self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(arrays), progress=ocp.args.JsonSave(dataclasses.asdict(progress))
                ),
            )
        )

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, Progress]:
        """A checkpoint on the devices and with the shardings of `like`."""
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _arrays(like))
        restored = self._guarded(
            lambda: self._manager.restore(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(target), progress=ocp.args.JsonRestore()),
            )
        )
        progress = Progress(**restored["progress"])
        self._best = progress.best_step
        return dataclasses.replace(like, **restored["state"]), progress

    def wait(self) -> None:
        """Until what was started is on disk."""
        self._guarded(self._manager.wait_until_finished)

    def close(self) -> None:
        """Finish and release."""
        self._guarded(self._manager.close)

    def save_frozen(self, frozen: Any) -> None:
        """Write the frozen parameters of a run that begins (over those of a start that left no checkpoint)."""
        path = (self._directory / FROZEN).absolute()
        if not jax.tree.leaves(frozen):
            return

        def write() -> None:
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(path, frozen, force=True)

        self._guarded(write)

    def restore_frozen(self, like: Any) -> Any:
        """The frozen parameters with the shardings of `like`; `like` itself when there are none on disk."""
        path = (self._directory / FROZEN).absolute()
        if not path.exists():
            return like
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with ocp.StandardCheckpointer() as checkpointer:
            return self._guarded(lambda: checkpointer.restore(path, target))

    def _guarded(self, action: Any) -> Any:
        """Run an orbax call; a full or read-only disk or a damaged checkpoint is one line."""
        try:
            return action()
        except OSError as error:
            raise UserError(
                f"{self._directory}: checkpoints cannot be written or read: {error.strerror or one_line(error)}"
            ) from error
        except (ValueError, RuntimeError) as error:  # orbax and tensorstore wrap I/O errors in these
            raise UserError(f"{self._directory}: checkpoint failed: {one_line(error)[:300]}") from error


class _OneStep:
    """An orbax preservation policy: keep the best step."""

    def __init__(self, owner: Checkpoints) -> None:
        self._owner = owner

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        return [info.step == self._owner._best for info in checkpoints]


def _arrays(state: TrainState) -> dict[str, Any]:
    arrays = {"params": state.params, "opt_state": state.opt_state, "step": state.step}
    return arrays | ({"average": state.average} if state.average else {})
