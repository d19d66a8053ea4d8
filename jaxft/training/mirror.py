"""A run at a URL: it works in a local copy, and a thread of process 0 makes the URL like the copy, every PERIOD seconds.

Files are uploaded whole whenever they have changed. A checkpoint is uploaded when it is whole, its manifest last, so what is
uploaded in part has no manifest and is passed over. A checkpoint that is gone here is removed there after a newer one is
whole there. `model/` follows at the end.
"""

import json
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jaxft.config import Config
from jaxft.core import checksums, distributed, remote_lock
from jaxft.core.errors import UserError
from jaxft.core.paths import is_url, plain
from jaxft.core.remote import fault, file_system, listing
from jaxft.core.upload import check_writable, in_order, make_folder, send_all
from jaxft.run.trained_models import CONFIG, MODEL
from jaxft.training import integrity
from jaxft.training.integrity import FOLDER, FROZEN
from jaxft.training.remote_run import SESSION, Place, checkpoint_files, fetch, is_hidden, local_directory, where

PERIOD = 15.0  # seconds


class Mirror:
    """Keeps a URL like the local copy of a run, from `begin` until `finish`; the lock of the URL is held until `close`."""

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        """Claim a URL, and fetch what it holds of the run.

        Raises:
          UserError: if it holds something else, another process uses it, or it cannot be read or written.
        """
        if (found := check_writable("output_dir", url)) and found["type"] != "directory":
            raise UserError(f"output_dir {url}: is a file")
        fs, root = file_system(url)
        self.place = Place(fs, root.rstrip("/"), url.rstrip("/"), local_directory(url))
        self._say, self._failed, self._said = say, "", ""
        self._sent: dict[str, tuple[int, int]] = {}  # file -> size and time of what is at the URL
        self._steps: dict[int, _Manifest | None] = {}  # checkpoint at the URL -> its manifest; None if it is another one
        self._uploaded: set[int] = set()  # checkpoints of this session
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = remote_lock.acquire(fs, self.place.root, self.place.url, say)
        try:
            fetch(self.place, say)
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """Upload what defines the run, and everything else that the copy has; from now on the thread follows.

        Raises:
          UserError: if it cannot be uploaded.
        """
        fs, root, url, directory = self.place
        session = json.dumps({"session": uuid.uuid4().hex}).encode()
        try:
            make_folder(fs, root)
            self._know()
            fs.pipe_file(f"{root}/{SESSION}", session)
            (directory / SESSION).write_bytes(session)
            self._upload(final=False)
        except Exception as error:  # of any protocol
            raise fault(url, error, "written") from error
        self._thread = threading.Thread(target=self._follow, name="mirror", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise a UserError if another process has taken the URL over; say once what could not be uploaded."""
        self._lock.check()
        if self._failed and self._failed != self._said:
            self._say(f"{self._failed}; the run goes on, and it is tried again")
        self._said = self._failed

    def finish(self) -> None:
        """Stop the thread, and upload all that is left.

        Raises:
          UserError: if it cannot be uploaded, saying where the copy is.
        """
        self._stop()
        if self._thread is None:  # nothing has begun
            return
        self._try(final=True)
        if self._failed:
            copy = where(self.place.directory)
            raise UserError(f"{self._failed}; everything is in {copy}: the same command uploads it from there")

    def close(self) -> None:
        """Stop the thread, and release the lock of the URL."""
        self._stop()
        self._lock.close()

    def _stop(self) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _follow(self) -> None:
        while not self._done.wait(PERIOD):
            self._try(final=False)

    def _try(self, *, final: bool) -> None:
        try:
            self._lock.look()
            self._upload(final=final)
            self._failed = ""
        except UserError as error:
            self._failed = str(error)
        except Exception as error:  # noqa: BLE001 (of any protocol)
            self._failed = str(fault(self.place.url, error, "written"))

    def _know(self) -> None:
        """Note which checkpoints, and whether the frozen parameters, are at the URL as they are here."""
        fs, root, url, directory = self.place
        fs.invalidate_cache()
        files = listing(fs, root, url) if fs.exists(root) else {}
        for step in checkpoint_files(files):
            self._steps[step] = None  # it has to be replaced, or removed
        for folder in (FROZEN, *(f"{FOLDER}/{step}" for step in self._steps)):
            name = f"{folder}/{checksums.MANIFEST}"
            manifest = _manifest(directory / folder)
            if name in files and manifest and fs.cat_file(f"{root}/{name}") == manifest.content:
                if folder == FROZEN:
                    self._sent |= {f"{FROZEN}/{x}": _state(directory / FROZEN / x) for x in in_order(directory / FROZEN)}
                else:
                    self._steps[int(folder.rpartition("/")[2])] = manifest

    def _upload(self, *, final: bool) -> None:
        """Make the URL like the copy; the errors are those of the protocol."""
        fs, root, _, directory = self.place
        # Those that are whole now: the files about the run, which are uploaded first, are not older than they are.
        manifests = {step: _manifest(directory / FOLDER / str(step)) for step in integrity.steps(directory)}
        for names in self._changed(final=final):
            states = {name: _state(directory / name) for name in names}
            send_all(fs, directory, root, names)
            self._sent |= states
        for step, manifest in manifests.items():
            if manifest is not None and self._steps.get(step) != manifest:
                self._upload_checkpoint(step, manifest)
        kept = [step for step in integrity.steps(directory) if step in self._uploaded]
        for step in [x for x in self._steps if not (directory / FOLDER / str(x)).exists()]:
            if any(newer > step for newer in kept):
                self._remove_checkpoint(step)

    def _changed(self, *, final: bool) -> Iterator[list[str]]:
        """The files that are to be uploaded, those before others that vouch for them."""
        directory, first, last = self.place.directory, [], []
        for name in in_order(directory):
            top = name.partition("/")[0]
            if is_hidden(name) or top == FOLDER or (top == MODEL and not final) or name == SESSION:
                continue
            with suppress(FileNotFoundError):  # a temporary file
                if _state(directory / name) != self._sent.get(name):
                    (last if name.rpartition("/")[2] in (checksums.MANIFEST, CONFIG) else first).append(name)
        yield first
        for name in sorted(last, key=lambda x: (x == CONFIG, x)):
            yield [name]

    def _upload_checkpoint(self, step: int, manifest: "_Manifest") -> None:
        fs, root, _, directory = self.place
        folder = directory / FOLDER / str(step)
        if step in self._steps:
            self._remove_checkpoint(step)
        self._steps[step] = None
        try:
            names = [name for name in in_order(folder) if name != checksums.MANIFEST]
            send_all(fs, folder, f"{root}/{FOLDER}/{step}", names)
        except FileNotFoundError:
            if folder.exists():
                raise
            return  # it was removed here, and will be there
        fs.pipe_file(f"{root}/{FOLDER}/{step}/{checksums.MANIFEST}", manifest.content)
        self._steps[step] = manifest
        self._uploaded.add(step)

    def _remove_checkpoint(self, step: int) -> None:
        fs, folder = self.place.fs, f"{self.place.root}/{FOLDER}/{step}"
        fs.invalidate_cache()
        with suppress(FileNotFoundError):  # first, so that a part of it is not taken for whole
            fs.rm_file(f"{folder}/{checksums.MANIFEST}")
        with suppress(FileNotFoundError):
            fs.rm(folder, recursive=True)
        del self._steps[step]


@contextmanager
def mirrored(config: Config) -> Iterator[tuple[Config, Mirror | None]]:
    """(the config with the directory in which the run works, what keeps the URL like it); None for a run that is here.

    Raises:
      UserError: if the URL cannot be claimed, if several processes do not share the directory, or if at the end not
        everything could be uploaded.
    """
    url = plain(config.output_dir)
    if not is_url(url):
        yield replace(config, output_dir=url), None
        return
    directory = local_directory(url)
    if distributed.process_count() > 1:
        _check_shared(url, directory)
    say = partial(print, file=sys.stderr, flush=True)
    mirror = distributed.by_main_process(lambda: Mirror(url, say))
    try:
        yield replace(config, output_dir=str(directory)), mirror
    except BaseException:
        if mirror is not None:
            try:
                mirror.finish()
            except UserError as error:
                say(str(error))
        raise
    else:
        if mirror is not None:
            mirror.finish()
    finally:
        if mirror is not None:
            mirror.close()


def _check_shared(url: str, directory: Path) -> None:
    try:
        distributed.check_shared(directory.parent.parent)
    except UserError as error:
        raise UserError(
            f"output_dir {url}: several processes write a run in one local directory, which process 0 uploads: set "
            "JAXFT_CACHE to a folder on a file system that all of them share"
        ) from error


class _Manifest(NamedTuple):
    """The manifest of a folder, and when it was written: a checkpoint that is written again may have the same."""

    content: bytes
    time: int


def _manifest(folder: Path) -> _Manifest | None:
    path = folder / checksums.MANIFEST
    with suppress(OSError):
        return _Manifest(path.read_bytes(), path.stat().st_mtime_ns)
    return None


def _state(path: Path) -> tuple[int, int]:
    return (found := path.stat()).st_size, found.st_mtime_ns
