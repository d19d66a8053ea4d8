"""Checkpoints of a run, kept by orbax: asynchronous, atomic, the latest few and the best one.

This is the one file that knows orbax. A checkpoint holds the trainable parameters, their moments, the step and the
`Progress` of the run; what is frozen is written once, in `frozen/`. Both hold a record of their files (see `intact`).
"""

import dataclasses
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from jaxft.core import checksums, distributed
from jaxft.core.errors import UserError, one_line
from jaxft.step.parameters import Parameters, from_stored
from jaxft.step.train_step import TrainState
from jaxft.training import integrity
from jaxft.training.integrity import FOLDER, FROZEN, RECORDED, TIMES


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
    """The checkpoints of one run directory.

    Args of the constructor:
      directory: of the run.
      keep: how many of the latest are kept.
      read_only: look only: what another process is just writing there is left alone.
    """

    def __init__(self, directory: Path, *, keep: int, read_only: bool = False) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._best: int | None = None
        self._copies: dict[Any, Callable[[Any], Any]] = {}
        self._directory = directory
        self._read_only = read_only
        self._saving: int | None = None
        self._frozen: str | None = None  # digest of the frozen parameters
        policies = ocp.checkpoint_managers.AnyPreservationPolicy([ocp.checkpoint_managers.LatestN(keep), _OneStep(self)])
        self._manager = self._guarded(
            lambda: ocp.CheckpointManager(
                (directory / FOLDER).absolute(),
                item_names=("state", "progress"),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=policies,
                    cleanup_tmp_directories=not read_only,
                    enable_async_checkpointing=True,
                    async_options=ocp.options.AsyncOptions(post_finalization_callback=self._record),
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
        self.wait()  # orbax would, and the record that it makes is the last step's until then
        self._saving = step
        copy = self._copies.get(jax.tree.structure(_arrays(state))) or self.prepare(state)
        arrays = copy(_arrays(state))
        self._guarded(
            lambda: self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(arrays),
                    progress=ocp.args.JsonSave(dataclasses.asdict(progress) | {RECORDED: True}),
                ),
            )
        )

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, Progress]:
        """A checkpoint on the devices and with the shardings of `like`.

        Args:
          step: of the checkpoint.
          like: arrays or shapes with shardings; its key and its hyperparameters, which are in no checkpoint, are kept.
        """
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _arrays(like))
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(target), progress=ocp.args.JsonRestore()),
            )
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:  # of orbax and tensorstore
            raise UserError(
                f"{self._directory}: the checkpoint of step {step} cannot be read: a file in {FOLDER}/{step} is damaged, or "
                "of another version of jaxft; delete that folder to go on from an earlier step"
            ) from error
        progress = Progress(**{name: x for name, x in restored["progress"].items() if name != RECORDED})
        self._best = progress.best_step
        return dataclasses.replace(like, **restored["state"]), progress

    def go_back(self, step: int | None) -> None:
        """Remove the checkpoints after a step (None: all): they are passed over, and will be written again."""
        for later in self.steps():
            if step is None or later > step:
                self._guarded(partial(self._manager.delete, later))

    def check(self, step: int) -> None:
        """That a checkpoint is whole.

        Raises:
          UserError: naming the file that is damaged.
        """
        wrong = integrity.look(self._directory, step).wrong if distributed.is_main_process() else None
        if not distributed.all_agree(wrong is None):
            raise UserError(
                f"{self._directory}: checkpoint of step {step} is damaged ({wrong or 'see process 0'}); train again with "
                "the same command, which goes back to what is whole and ends with the same model"
            )

    @property
    def saving(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._manager.is_saving_in_progress()

    def wait(self) -> None:
        """Until what was started is on disk."""
        self._guarded(self._manager.wait_until_finished)

    def close(self) -> None:
        """Finish and release."""
        self._guarded(self._manager.close)

    def save_frozen(self, frozen: Parameters, content: Callable[[], str]) -> None:
        """Write the frozen parameters of a run that begins (over those of a start that left no checkpoint).

        Args:
          frozen: on the mesh.
          content: gives their digest.
        """
        path = (self._directory / FROZEN).absolute()
        if not jax.tree.leaves(frozen):
            return
        self._frozen = content()

        def write() -> None:
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(path, frozen.as_stored(), force=True)
            # A kill before this leaves no checkpoint yet, and the next start writes all of it again.
            if distributed.is_main_process():
                checksums.write_manifest(path, exclude=TIMES, frozen=self._frozen)

        self._guarded(write)

    def restore_frozen(
        self, like: Parameters, make: Callable[[], Parameters], content: Callable[[], str], step: int
    ) -> Parameters:
        """The frozen parameters with the shardings of `like`; those of `make` where there are none on disk.

        Damaged ones are made again where the model gives the same.

        Args:
          like: shapes with shardings of what a run that begins now has.
          make: gives the arrays of that, from the model.
          content: gives their digest.
          step: of the checkpoint that they belong to.

        Raises:
          UserError: when they are damaged and the model does not give the same.
        """
        path = (self._directory / FROZEN).absolute()
        found, recorded = self._look_at_frozen(step)
        self._frozen = recorded
        if not distributed.all_agree(not found.wrong):
            if not distributed.all_agree(
                not distributed.is_main_process() or (recorded is not None and content() == recorded)
            ):
                raise UserError(
                    f"{self._directory}: {found.wrong or FROZEN + ' is damaged'}, and model.path does not give the same "
                    "frozen parameters: put the model back that the run began with, or give --output_dir another name"
                )
            self._say(f"{found.wrong}: the frozen parameters are made again from the model, which gives the same")
            made = make()
            if not self._read_only:
                self.save_frozen(made, content)
            return made
        if not path.exists():
            return make()
        if found.record is None:
            self._say(f"{FROZEN}/ was written without checksums: it is not verified")
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like.as_stored())
        with ocp.StandardCheckpointer() as checkpointer:
            try:
                return from_stored(checkpointer.restore(path, target))
            except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}: cannot be read: a file in it is damaged, or it is of another version of jaxft"
                ) from error

    def _look_at_frozen(self, step: int) -> tuple[integrity.Found, str | None]:
        """(what became of their files, their digest as it was written); of the main process, which alone looks."""
        if not distributed.is_main_process():
            return integrity.Found(None), None
        of_step = integrity.record_of(self._directory, step).content
        found = integrity.look_at_frozen(self._directory, of_step)
        return found, of_step or found.content

    def _record(self) -> None:
        """Write the record of the checkpoint that lacks but its name; orbax calls it in its thread, on one host."""
        folder = self._directory / FOLDER
        temporary = sorted(folder.glob(f"{self._saving}.*tmp*"))
        checksums.write_manifest(
            temporary[0] if temporary else folder / str(self._saving), exclude=TIMES, frozen=self._frozen
        )

    def _say(self, line: str) -> None:
        if distributed.is_main_process():
            print(line, file=sys.stderr, flush=True)

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
