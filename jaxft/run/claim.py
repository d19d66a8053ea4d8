"""Claiming the output directory: it belongs to this run, no other process works in it, and the inputs are unchanged."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from jaxft.config import Config
from jaxft.core import distributed
from jaxft.core.lock import Lock, acquire
from jaxft.run import input_files, rundir


class Claim:
    """The claim of a run on its directory: a context manager that releases the lock. Only the main process reads and writes.

    Attributes:
      other_weights: what has changed in the weights that the run started from; a run with a checkpoint no longer needs them.
    """

    def __init__(self, config: Config) -> None:
        """Check the directory before the data is read, and lock it if it exists.

        Raises:
          UserError: when it holds another run or other files, another process works in it, or inputs have changed.
        """
        self.other_weights: Sequence[str] = ()
        self._config = config
        self._directory = Path(config.output_dir)
        self._lock: Lock | None = None
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
        if self._lock is not None or not distributed.is_main_process():
            return
        self._lock = acquire(rundir.make(self._config))
        if rundir.check_claim(self._config):  # the same run has begun elsewhere meanwhile, and ended
            self._compare()
        else:
            rundir.claim(self._config, self._files, tokenizer, texts)

    def check(self) -> None:
        """Check that the directory still belongs to this process.

        Raises:
          UserError: when another has taken it over.
        """
        if self._lock is not None:
            self._lock.check()

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> "Claim":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _compare(self) -> None:
        changed = input_files.changes(self._directory, self._files)
        if changed is None:
            print(
                f"{self._directory}: holds no record of the files that this run began with; they are recorded from now on",
                file=sys.stderr,
            )
            input_files.record(self._directory, self._files)
        else:
            input_files.refuse(self._directory, changed.decisive)
            self.other_weights = changed.weights
        rundir.sweep(self._directory)
