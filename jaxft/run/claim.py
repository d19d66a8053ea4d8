"""Claiming the output directory: it belongs to this run, no other process uses it, and the input files are unchanged."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from jaxft.config import Config
from jaxft.core import distributed
from jaxft.core.errors import some
from jaxft.core.lock import Lock, acquire
from jaxft.run import input_files, rundir


class Follower(Protocol):
    """What keeps a URL like the directory of a run (`training.mirror`)."""

    def begin(self) -> None:
        """Upload what the directory holds, and follow it from now on; raises a UserError if it cannot."""

    def check(self) -> None:
        """Raise a UserError if the URL belongs to another process now."""


class Claim:
    """A context manager that locks the directory of a run. Only the main process reads and writes there."""

    def __init__(self, config: Config, follower: Follower | None = None) -> None:
        """Check the directory before the data is read, and lock it if it exists.

        Args:
          config: of the run.
          follower: begins when the claim is settled, and is checked with it.

        Raises:
          UserError: when it holds another run or other files, another process uses it, or input files have changed.
        """
        self._changed_weights: Sequence[str] = ()  # changes in the weights that the run started from
        self._config = config
        self._directory = Path(config.output_dir)
        self._lock: Lock | None = None
        self._follower = follower
        self._files: input_files.Inputs = {}
        if not distributed.is_main_process():
            return
        try:
            resuming = rundir.check_claim(config)
            if resuming:
                self._lock = acquire(self._directory)
            self._files = input_files.read(config)
            if resuming:
                self._compare()
        except BaseException:
            self.close()
            raise

    def settle(self, tokenizer: Path | None, texts: Mapping[str, str] | None = None) -> None:
        """Lock a new directory, and write what defines the run into it (see `rundir.claim`)."""
        if not distributed.is_main_process():
            return
        if self._lock is None:
            self._settle(tokenizer, texts)
        if self._follower is not None:
            self._follower.begin()

    def _settle(self, tokenizer: Path | None, texts: Mapping[str, str] | None) -> None:
        self._lock = acquire(rundir.make(self._config))
        if rundir.check_claim(self._config):  # another process has begun and ended the same run meanwhile
            self._compare()
        else:
            rundir.claim(self._config, self._files, tokenizer, texts)

    def check_weights(self, step: int | None, *, adapted: bool) -> None:
        """Report that a run continues at a step although its initial weights have changed, or refuse if it needs them.

        A run with a checkpoint no longer needs them, unless it has only trained adapters.

        Raises:
          UserError: when the initial weights are needed.
        """
        if step is None or adapted:
            input_files.refuse(self._directory, self._changed_weights)
        elif self._changed_weights:
            changed = some(self._changed_weights)
            print(f"{changed} since the run began: it goes on with its own parameters, of step {step}", file=sys.stderr)

    def check(self) -> None:
        """Check that the directory still belongs to this process.

        Raises:
          UserError: when another has taken it over.
        """
        if self._lock is not None:
            self._lock.check()
        if self._follower is not None:
            self._follower.check()

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _compare(self) -> None:
        changes = input_files.changes(self._directory, self._files)
        if changes is None:
            print(
                f"{self._directory}: holds no record ({input_files.FILE}) of the files that this run began with; they are "
                "recorded from now on",
                file=sys.stderr,
            )
            input_files.record(self._directory, self._files)
        else:
            changed, self._changed_weights = changes
            input_files.refuse(self._directory, changed)
        rundir.sweep(self._directory)
