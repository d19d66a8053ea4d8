"""Where the outputs of a teacher are kept, and who writes them: a folder that several runs may use, or unnamed files."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.core import distributed, lock
from jaxft.core.checksums import Damaged
from jaxft.core.errors import UserError, some
from jaxft.core.lock import Lock
from jaxft.core.paths import cache_dir
from jaxft.teacher_cache import identity, store
from jaxft.teacher_cache.store import Arrays, FolderWriter, Found, TemporaryWriter, Writer

POLL = 0.5  # seconds between two looks at a lock that another run holds


@dataclass(frozen=True)
class Opened:
    """A complete cache, or a writer that makes one.

    Attributes:
      values: the arrays of a complete cache.
      writer: of this process, if it writes.
      lock: of the folder, while this process writes there.
    """

    values: Mapping[str, np.ndarray] | None = None
    writer: Writer | None = None
    lock: Lock | None = None


@dataclass(frozen=True)
class Place:
    """The folder of a cache.

    Attributes:
      folder: where it is.
      own: whether `distill.cache_dir` names it, so that what it holds is the user's choice.
      about: what determines the values (`identity.describe`).
      arrays: what it holds.
      count: number of examples.
      say: prints a line.
      lasting: whether the outputs are for other runs, so that temporary files would be of no use.
    """

    folder: Path
    own: bool
    about: Mapping[str, Any]
    arrays: Arrays
    count: int
    say: Callable[[str], None]
    lasting: bool = False

    def open(self) -> Opened:
        """Open the cache if it is complete, or else begin to write it, or go on; another run that does is waited for.

        Raises:
          UserError: if `distill.cache_dir` holds something else, or the disk has not enough space.
        """
        if (values := self.complete()) is not None:
            return Opened(values)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = self._lock()
        except (OSError, UserError) as error:
            reason = (error.strerror or error) if isinstance(error, OSError) else error
            reason = str(reason).removeprefix(f"output_dir {self.folder}: ").removeprefix("cannot be written: ")
            if self.lasting:
                raise self._unwritable(self.folder, reason) from error
            self.say(f"{self.folder} cannot be written ({reason}): the teacher's outputs are kept in temporary files")
            return Opened(writer=self.temporary())
        try:
            found = self._look_again()
            if found.done == self.count:
                held.close()
                return Opened(store.mapped(self.folder, self.arrays))
            self._check_space(self.folder, self.size - sum((found.sizes or {}).values()))
            with self.writing():
                return Opened(writer=FolderWriter(self.folder, self.arrays, self.about, found), lock=held)
        except BaseException:
            held.close()
            raise

    def temporary(self) -> Writer:
        """A writer of unnamed files, for this process alone.

        Raises:
          UserError: if the disk has not enough space.
        """
        self._check_space(Path(tempfile.gettempdir()), self.size)
        return TemporaryWriter(self.arrays)

    def complete(self) -> Mapping[str, np.ndarray] | None:
        """The values, if the cache is complete and undamaged; None if there is something to write.

        Raises:
          UserError: if `distill.cache_dir` holds something else.
        """
        self.refuse_others()
        if not store.looks_complete(self.folder, self.count):
            return None
        try:
            found = self._look()
        except (OSError, Damaged):
            return None  # `open` says it, as soon as it can make it anew
        return store.mapped(self.folder, self.arrays) if found.done == self.count else None

    def is_described(self) -> bool:
        """Whether the folder says that it holds, or will hold, these outputs."""
        try:
            return identity.is_same(store.read_about(self.folder) or {}, self.about)
        except (OSError, Damaged):
            return False

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(x.size for x in self.arrays.values())

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A context in which a disk that cannot be written is an error of one line."""
        try:
            yield
        except OSError as error:
            raise self._unwritable(self.folder, error.strerror or str(error)) from error

    def refuse_others(self) -> None:
        """Refuse a directory of the user's that holds something else."""
        if not self.own or not self.folder.exists():
            return
        where = f"distill.cache_dir {self.folder}"
        if not self.folder.is_dir():
            raise UserError(f"{where}: is a file")
        try:
            about = store.read_about(self.folder)
        except Damaged as error:
            raise UserError(f"{where}: {error}, so nobody can tell what it holds; delete it, or give another one") from error
        except OSError:
            return  # `open` says it
        if about is None:
            names = sorted(path.name for path in self.folder.iterdir())
            allowed = store.own_files(self.arrays) | {f".{store.ABOUT}.new"}
            if others := [name for name in names if name not in allowed and not lock.is_lock_file(name)]:
                raise UserError(f"{where}: holds other files ({some(others)}): must be a new or empty directory")
        elif not identity.is_same(about, self.about):
            changed = some(identity.differences(about, self.about))
            raise UserError(
                f"{where}: holds other outputs than this run needs ({changed}): choose another directory, or null"
            )

    def _look(self) -> Found:
        """What the folder holds of these outputs.

        Raises:
          Damaged: if it is something else than was written.
          OSError: if it cannot be read.
        """
        found = store.look(self.folder, self.arrays)
        if found.about is not None and not identity.is_same(found.about, self.about):
            raise Damaged(f"{store.ABOUT} is that of other outputs")
        whole = {name: x.size for name, x in self.arrays.items()}
        if found.done > self.count or (found.done == self.count and found.sizes != whole):
            raise Damaged(f"{store.PROGRESS} tells of other sizes")
        return found

    def _look_again(self) -> Found:
        """What the folder, which this process has locked, holds; what is damaged is removed."""
        try:
            return self._look()
        except (OSError, Damaged) as error:
            self.say(f"the teacher's outputs in {self.folder} are damaged ({error}) and are computed again")
            with self.writing():
                store.clear(self.folder, self.arrays)
            return Found()

    def _lock(self) -> Lock:
        told = False
        while True:
            try:
                return lock.acquire(self.folder, self.say)
            except lock.Held:
                if not told:
                    self.say(f"another run writes the teacher's outputs into {self.folder}: waiting for it")
                told = True
                time.sleep(POLL)

    def _check_space(self, folder: Path, needed: int) -> None:
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise self._unwritable(folder, f"{shown_size(needed)} are needed and {shown_size(free)} are free")

    def _unwritable(self, folder: Path, reason: str) -> UserError:
        return UserError(
            f"{folder}: the teacher's outputs ({shown_size(self.size)}) cannot be written: {reason}; give a directory "
            "on another disk (distill.cache_dir), or let the teacher run in every step (distill.cache off)"
        )


def place_of(
    directory: str | None,
    about: Mapping[str, Any],
    arrays: Arrays,
    count: int,
    say: Callable[[str], None],
    *,
    lasting: bool = False,
) -> Place:
    """The folder that `distill.cache_dir` names, or that of these outputs in the user's cache folder."""
    folder = Path(directory).expanduser() if directory else cache_dir() / "teachers" / identity.name_of(about)
    return Place(folder, directory is not None, about, arrays, count, say, lasting)


def shown_size(size: int) -> str:
    """A number of bytes for a message."""
    return f"{size:,} bytes" if size < 2**20 else f"{size / 2**20:,.1f} MiB"


def opened_by_all(place: Place) -> Opened:
    """`Place.open` for all processes of a run: the main process writes the folder, and who does not see it unnamed files.

    A process that sees the folder and does not write gets neither values nor a writer.
    """
    if distributed.process_count() == 1:
        return place.open()
    opened = distributed.by_main_process(place.open) or Opened()
    main = distributed.is_main_process()
    ready = bool(distributed.from_main(int(opened.values is not None)))
    if not main and ready:
        opened = Opened(place.complete())
    if ready and distributed.all_agree(opened.values is not None):
        return opened
    if not main and opened.values is None:
        seen = not ready and distributed.appears(place.folder / store.ABOUT) and place.is_described()
        opened = Opened() if seen else Opened(writer=place.temporary())
    return opened
