"""Checkpoints of a run, written by orbax: asynchronously and atomically; the latest few and the best one are kept.

Only this file uses orbax. A checkpoint holds the trainable parameters, their moments, the step and an `EvaluationState`. The
frozen parameters are written once, in `frozen/`. Both contain digests of their files (see `integrity`). A checkpoint that
cannot be written costs only itself: older ones are deleted after a newer one is whole, and the run goes on.
"""

import dataclasses
import errno
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from jaxft.core import checksums, distributed, tree
from jaxft.core.errors import UserError, one_line
from jaxft.run.model_setup import ModelSetup
from jaxft.run.state import fresh_frozen, frozen_content, run_optimizer, start_shapes, with_constants
from jaxft.step.parameters import Parameters, from_stored
from jaxft.step.stages import stage_shapes, unfreeze
from jaxft.step.train_step import TrainState
from jaxft.training import integrity
from jaxft.training.early_stopping import EvaluationState
from jaxft.training.integrity import FOLDER, FROZEN, RECORDED, TIMES

# Of these, orbax and tensorstore raise errors whose text holds what the system says.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EFBIG)
_WRITE_ERRORS = (OSError, ValueError, RuntimeError)  # orbax and tensorstore wrap I/O errors in the last two
_READ_ERRORS = (*_WRITE_ERRORS, KeyError, TypeError)  # for damaged files


class Unsaved(NamedTuple):
    """A checkpoint that could not be written."""

    step: int
    why: str  # such as "No space left on device"


class Checkpoints:
    """The checkpoints in the directory of a run, of which the best and the latest `keep` are kept.

    With `read_only`, what another process is writing there is left alone.

    Attributes:
      unsaved: the last checkpoint that was due, if it could not be written.
      say: prints a line to the user.
    """

    def __init__(self, directory: Path, *, keep: int, read_only: bool = False) -> None:
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # it logs the tracebacks of errors that it raises, too
        self.unsaved: Unsaved | None = None
        self.say: Callable[[str], None] = _print
        self._best: int | None = None
        self._copies: dict[Any, Callable[[Any], Any]] = {}
        self._directory = directory
        self._keep, self._read_only = keep, read_only
        self._saving: int | None = None
        self._frozen: str | None = None  # digest of the frozen parameters
        self._manager = self._open()

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

    def save(self, state: TrainState, progress: EvaluationState) -> None:
        """Start writing a checkpoint; the next step may donate the state as soon as this returns.

        If it fails, now or in the background, one process goes on without it and says so (`unsaved`).

        Raises:
          UserError: if it fails and there are several processes, which would wait for one another.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self._best = progress.best_step
        self.wait()  # orbax would wait too, but `_record` needs the step that is being saved
        self._saving = step
        # On CPU orbax would read the same buffers that the next step overwrites.
        arrays = _arrays(state)
        copy = self._copies.get(jax.tree.structure(arrays)) or self.prepare(state)
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(copy(arrays)),
            progress=ocp.args.JsonSave(dataclasses.asdict(progress) | {RECORDED: True}),
        )
        with self._unless_failing():
            if distributed.process_count() == 1:  # several may each have a disk of their own
                _check_space(self._directory, sum(x.nbytes for x in jax.tree.leaves(arrays)))
            self._manager.save(step, args=items)

    def restore_run(self, run: ModelSetup, step: int) -> tuple[TrainState, Parameters, EvaluationState]:
        """(state, frozen parameters, progress) of a checkpoint, in the stage of the last step before it.

        Arrays are read into the shapes of the state, so there is never a second copy of parameters and moments in memory.
        """
        state, at_start = start_shapes(run)
        frozen_shapes, optimizer = at_start, run_optimizer(run)
        for start in [s for s in run.plan.stages[1:] if s < step]:
            unfrozen, frozen_shapes = unfreeze(run.plan, frozen_shapes, start)
            state = stage_shapes(optimizer, run.mesh, state, unfrozen)
        frozen = self._restore_frozen(run, at_start, step)
        # Those that are trained by now are in the checkpoint, and freed here.
        is_frozen = tree.flatten(frozen_shapes.model).__contains__
        frozen = dataclasses.replace(frozen, model=tree.partition(frozen.model, is_frozen)[0])
        state, progress = self.restore(step, with_constants(run, state))
        return state, frozen, progress

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, EvaluationState]:
        """The state of a checkpoint with the shardings of `like` (arrays or shapes), and the progress.

        The key and the hyperparameters are those of `like`: no checkpoint contains them.
        """
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _arrays(like))
        items = ocp.args.Composite(state=ocp.args.StandardRestore(target), progress=ocp.args.JsonRestore())
        try:
            restored = self._manager.restore(step, args=items)
        except _READ_ERRORS as error:
            raise UserError(
                f"{self._directory}: the checkpoint of step {step} cannot be read: a file in {FOLDER}/{step} is damaged, or "
                "of another version of jaxft; delete that folder to go on from an earlier step"
            ) from error
        progress = EvaluationState(**{name: x for name, x in restored["progress"].items() if name != RECORDED})
        self._best = progress.best_step
        return dataclasses.replace(like, **restored["state"]), progress

    def go_back(self, step: int | None) -> None:
        """Delete the checkpoints after a step (None: all), which the run will write again."""
        for later in self.steps():
            if step is None or later > step:
                with self._errors():
                    self._manager.delete(later)

    def check(self, step: int) -> None:
        """Verify a checkpoint.

        Raises:
          UserError: naming the file that is damaged.
        """
        damage = integrity.verify(self._directory, step).damage if distributed.is_main_process() else None
        if not distributed.all_agree(damage is None):
            raise UserError(
                f"{self._directory}: checkpoint of step {step} is damaged ({damage or 'see process 0'}); train again with "
                "the same command, which goes back to what is whole and ends with the same model"
            )

    @property
    def saving(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._manager.is_saving_in_progress()

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is on disk, or has failed as in `save`."""
        if self._saving is None:
            return
        with self._unless_failing():
            self._manager.wait_until_finished()
            self._saving = self.unsaved = None

    @property
    def newest(self) -> str:
        """Which checkpoint is the newest, in words."""
        step = self.latest()
        return f"the newest checkpoint is that of step {step}" if step else "there is no checkpoint yet"

    def where_saved(self, step: int) -> str:
        """Which checkpoint a run that stops after a step leaves."""
        if self.unsaved is None:
            return f"step {step} is saved in {self._directory}"
        return f"step {step} could not be saved in {self._directory} ({self.unsaved.why}), and {self.newest}"

    def close(self) -> None:
        """Finish writing and release orbax's threads."""
        self.wait()
        with self._errors():
            self._manager.close()

    def save_frozen(self, run: ModelSetup, frozen: Parameters) -> None:
        """Write the frozen parameters of a run that begins, over those of an earlier start that left no checkpoint."""
        if not jax.tree.leaves(frozen):
            return
        path = (self._directory / FROZEN).absolute()
        self._frozen = frozen_content(run)
        with self._errors():
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(path, frozen.as_stored(), force=True)
            # If the process is killed before this, there is no checkpoint yet, and the next start writes everything again.
            if distributed.is_main_process():
                checksums.write_manifest(path, exclude=TIMES, durable=True, frozen=self._frozen)

    def _restore_frozen(self, run: ModelSetup, like: Parameters, step: int) -> Parameters:
        """The frozen parameters before the first step, with the shardings of `like`.

        They are made again from the model if they are not on disk, or are damaged and the model still gives the same.

        Raises:
          UserError: if they are damaged and the model does not give the same.
        """
        path = (self._directory / FROZEN).absolute()
        found, self._frozen = integrity.Verified(None), None
        if distributed.is_main_process():
            digest = integrity.frozen_digest(self._directory, step)
            found = integrity.verify_frozen(self._directory, digest)
            self._frozen = digest or found.frozen
        if not distributed.all_agree(not found.damage):
            same = not distributed.is_main_process() or (self._frozen is not None and frozen_content(run) == self._frozen)
            if not distributed.all_agree(same):
                raise UserError(
                    f"{self._directory}: {found.damage or FROZEN + ' is damaged'}, and model.path does not give the same "
                    "frozen parameters: put the model back that the run began with, or choose another --output_dir"
                )
            self.say(f"{found.damage}: the frozen parameters are made again from the model, which gives the same")
            made = fresh_frozen(run)
            if not self._read_only:
                self.save_frozen(run, made)
            return made
        if not path.exists():
            return fresh_frozen(run)
        if found.record is None:
            self.say(f"{FROZEN}/ was written without checksums: it is not verified")
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like.as_stored())
        with ocp.StandardCheckpointer() as checkpointer:
            try:
                return from_stored(checkpointer.restore(path, target))
            except _READ_ERRORS as error:
                raise UserError(
                    f"{path}: cannot be read: a file in it is damaged, or it is of another version of jaxft"
                ) from error

    def _record(self) -> None:
        """Write the digests of a checkpoint that lacks only its name; orbax calls this in its thread, on one host."""
        folder = self._directory / FOLDER
        temporary = sorted(folder.glob(f"{self._saving}.*tmp*"))
        complete = temporary[0] if temporary else folder / str(self._saving)
        checksums.write_manifest(complete, exclude=TIMES, durable=True, frozen=self._frozen)

    def _open(self) -> ocp.CheckpointManager:
        """Look at the checkpoints on the disk, and remove what was only begun."""
        policies = ocp.checkpoint_managers.AnyPreservationPolicy(
            [ocp.checkpoint_managers.LatestN(self._keep), _BestStep(self)]
        )
        with self._errors():
            return ocp.CheckpointManager(
                (self._directory / FOLDER).absolute(),
                item_names=("state", "progress"),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=policies,
                    cleanup_tmp_directories=not self._read_only,
                    enable_async_checkpointing=True,
                    async_options=ocp.options.AsyncOptions(post_finalization_callback=self._record),
                ),
            )

    @contextmanager
    def _unless_failing(self) -> Iterator[None]:
        """Go on with another manager if writing fails: orbax's would raise the same error again, and has forgotten steps."""
        try:
            yield
        except _WRITE_ERRORS as error:
            if distributed.process_count() > 1:
                raise self._failed(error) from error
            self.unsaved, self._saving = Unsaved(self._saving or 0, _reason(error)), None
            with suppress(*_WRITE_ERRORS):
                self._manager.close()
            self._manager = self._open()
            self.say(
                f"{self._directory}: the checkpoint of step {self.unsaved.step} could not be written: {self.unsaved.why}; "
                f"the run goes on, and {self.newest}"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn orbax's errors, such as of a full or read-only disk or a damaged checkpoint, into a UserError."""
        try:
            yield
        except _WRITE_ERRORS as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> UserError:
        return UserError(f"{self._directory}: checkpoints cannot be written or read: {_reason(error)}")


class _BestStep:
    """An orbax preservation policy that keeps the checkpoint of the best step."""

    def __init__(self, owner: Checkpoints) -> None:
        self._owner = owner

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        return [info.step == self._owner._best for info in checkpoints]


def _arrays(state: TrainState) -> dict[str, Any]:
    arrays = {"params": state.params, "opt_state": state.opt_state, "step": state.step}
    return arrays | ({"average": state.average} if state.average else {})


def _check_space(directory: Path, needed: int) -> None:
    """Raise an OSError if the disk has fewer free bytes than are needed: a write that fails half way would fill it."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        said = f"{os.strerror(errno.ENOSPC)} ({needed / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are free)"
        raise OSError(errno.ENOSPC, said)


def _reason(error: Exception) -> str:
    """What the system says of an error, or else the error's own text."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = one_line(error)
    return next((said for said in map(os.strerror, _DISK_ERRORS) if said in text), text[:300])


def _print(line: str) -> None:
    if distributed.is_main_process():
        print(line, file=sys.stderr, flush=True)
