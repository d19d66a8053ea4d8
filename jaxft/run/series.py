"""A directory in which a command makes several runs of one config, one after another, and resumes where it was stopped.

The directory records the config, the options of the command and the digests of all input files when it begins.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from jaxft.config import Config, cli
from jaxft.core import checksums, lock
from jaxft.core.errors import UserError, shown, some
from jaxft.run import input_files, rundir

SERIES = "series.json"
Results = Mapping[str, Any]


class Series:
    """A context manager that locks the directory of a series of runs."""

    def __init__(
        self,
        directory: Path,
        config: Config,
        command: str,
        options: Mapping[str, Any],
        files: Mapping[str, Iterable[Path]] = MappingProxyType({}),
    ) -> None:
        """Check that the directory is new or holds this series, and lock it.

        Args:
          directory: where the runs are; it is created.
          config: the config of which they are runs.
          command: the command that makes the runs.
          options: its own options that change the result, and their values.
          files: input files that the config does not name, by option.

        Raises:
          UserError: if it holds something else, input files have changed, or another process works in it.
        """
        self.directory, self._lock = directory, None
        config = replace(config, output_dir=str(directory))
        self._content: dict[str, Any] = {"command": command, "config": cli.as_dict(config), "options": dict(options)}
        rundir.make(config)
        self._lock = lock.acquire(directory)
        try:
            more = {option: {shown(str(path)): checksums.of_file(path) for path in paths} for option, paths in files.items()}
            inputs = {**input_files.read(config), **more}
            if not self._is_new():
                self._compare(config, inputs)
            else:
                checksums.write_sealed(directory / SERIES, {**self._content, "inputs": inputs})
        except BaseException:
            self.close()
            raise

    def results(self, name: str) -> Results | None:
        """What `finish` recorded of the run `name`; None if it has not finished.

        Raises:
          UserError: if the record is damaged.
        """
        path = self._results_file(name)
        try:
            return checksums.read_sealed(path)
        except FileNotFoundError:
            return None
        except checksums.Damaged as error:
            raise UserError(f"{path}: is damaged; delete it, and the same command makes it again") from error

    def finish(self, name: str, results: Results) -> Results:
        """Record the results of the run `name`, and return them."""
        checksums.write_sealed(self._results_file(name), results)
        return results

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _results_file(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def _is_new(self) -> bool:
        names = {p.name for p in self.directory.iterdir() if not lock.is_lock_file(p.name)} - {f".{SERIES}.new"}
        if names and SERIES not in names:
            raise UserError(
                f"{self.directory}: holds files but no {SERIES} of {self._content['command']}; choose an empty or new "
                "directory"
            )
        return not names

    def _compare(self, config: Config, inputs: input_files.Inputs) -> None:
        path = self.directory / SERIES
        try:
            before = checksums.read_sealed(path)
        except checksums.Damaged as error:
            raise UserError(f"{path}: {error}; choose another directory") from error
        changed = [] if before["command"] == self._content["command"] else [f"the command ({before['command']} there)"]
        there, here = before["options"], self._content["options"]
        changed += [f"{k} ({there.get(k)} there, {here[k]} here)" for k in here if here[k] != there.get(k)]
        changed += rundir.differences(config, cli.parse(before["config"], [], origin=str(path)))
        if changed:
            raise UserError(
                f"{self.directory}: holds the runs of other options, which differ in {some(changed)}; choose another "
                "directory, or the same options to resume"
            )
        there = before["inputs"]
        if files := [
            x for option, new in inputs.items() for x in input_files.differences(option, there.get(option, {}), new)
        ]:
            raise UserError(
                f"{self.directory}: its runs began with other files ({some(files)}): put the old ones back to resume, or "
                "choose another directory for runs on the new ones"
            )
