"""A file system of fsspec that stands in for a remote one: stand://FOLDER is a local folder, and operations can fail.

It is registered when a test asks for it, and is told by `Faults` which operations fail, and how.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

PROTOCOL = "stand"


@dataclass
class Faults:
    """What happens in the stand-in.

    Attributes:
      raises: operation (get_file, put_file, info, pipe_file, rm_file) -> what its path is given to before; it may raise.
      short: endings of files of which half arrives.
      calls: how often each operation was called.
    """

    raises: dict[str, Callable[[str], None]] = field(default_factory=dict)
    short: tuple[str, ...] = ()
    calls: Counter = field(default_factory=Counter)

    def meet(self, operation: str, path: str) -> None:
        self.calls[operation] += 1
        self.raises.get(operation, lambda path: None)(path)


class StandIn(LocalFileSystem):
    """A local file system under another name."""

    protocol = (PROTOCOL,)
    cachable = False
    faults = Faults()

    def info(self, path: Any, **more: Any) -> dict[str, Any]:
        self.faults.meet("info", str(path))
        return super().info(path, **more)

    def get_file(self, path1: str, path2: Any, callback: Any = None, **more: Any) -> Any:
        self.faults.meet("get_file", path1)
        super().get_file(path1, path2)
        if path1.endswith(self.faults.short or ("\0",)):
            Path(path2).write_bytes(Path(path2).read_bytes()[: Path(path2).stat().st_size // 2])

    def put_file(self, path1: str, path2: str, callback: Any = None, **more: Any) -> Any:
        self.faults.meet("put_file", path2)
        return super().put_file(path1, path2)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **more: Any) -> Any:
        self.faults.meet("pipe_file", path)
        with open(self._strip_protocol(path), "xb" if mode == "create" else "wb") as file:
            file.write(value)

    def rm_file(self, path: str) -> None:
        self.faults.meet("rm_file", path)
        super().rm_file(path)


def stand_in() -> Faults:
    """Register the file system, without faults, and return what they are changed by."""
    StandIn.faults = Faults()
    fsspec.register_implementation(PROTOCOL, StandIn, clobber=True)
    return StandIn.faults


def url(path: Path) -> str:
    """The URL under which the stand-in has a local path."""
    return f"{PROTOCOL}://{path}"
