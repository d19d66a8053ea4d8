"""Paths from users and files: which are URLs, names must not lead out of a directory; and the user's cache folder."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from jaxft.core.errors import UserError

# At least two letters, since a single letter is a drive; one slash is enough, since normalising a path merges two.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
_FILE = re.compile(r"(?:file|local)://(?:localhost)?(?=/)", re.IGNORECASE)
_HUB = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?:datasets/)?([\w.-]+/[\w.-]+)(?!.*/resolve/)")


def is_url(value: object) -> bool:
    """Whether a value is the URL of something that is on another machine: not `package:...`, and not `file://...`."""
    found = _URL.match(value) if isinstance(value, str) else None
    return found is not None and found[1].lower() not in ("package", "file", "local")


def plain(path: str) -> str:
    """A path without `file://`, if it has that."""
    return path[found.end() :] if (found := _FILE.match(path)) else path


def check_url(name: str, value: object) -> None:
    """Raise a UserError if an option's value is a URL, or a list with one, that is not written as URLs are."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        for each in value:
            check_url(name, each)
        return
    found = _URL.match(value.strip()) if isinstance(value, str) else None
    if found is None or found[1].lower() == "package" or not isinstance(value, str):
        return
    scheme, rest = found[1].lower(), value.strip()[found.end() :]
    if scheme in ("file", "local") and plain(value) == value:
        raise UserError(f"{name} is {value}: give the plain path /{rest}")
    if value != value.strip():
        raise UserError(f'{name} is "{value}": the URL begins or ends with a space')
    if hub := _HUB.match(value):
        raise UserError(f"{name} is {value}: a page of the hub, not a file: give the hub id {hub[1]}, or a local path")
    if not value[len(scheme) + 1 :].startswith("//"):
        raise UserError(f"{name} is {value}: a URL has two slashes: give {scheme}://{rest}")
    if "::" in value:
        raise UserError(f"{name} is {value}: URLs within URLs (::) are not read: give the URL of a file or directory")


def refuse_url(name: str, value: object) -> None:
    """Raise a UserError if an option's value is a URL, or a list with one: it would be read as a folder named `s3:`."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        for each in value:
            refuse_url(name, each)
        return
    scheme = _URL.match(value.strip()) if isinstance(value, str) else None
    if scheme is None or scheme[1] == "package" or not isinstance(value, str):
        return
    right = f"the plain path /{value.strip()[scheme.end() :]}" if scheme[1].lower() == "file" else "a local path"
    raise UserError(f"{name} is {value}: must be on this machine, or mounted: give {right}")


def path_inside(directory: Path, name: str) -> Path | None:
    """The path of a name that a model's files give, relative to their directory, or None if it leads outside.

    A link that leads out of the directory counts as outside, except for the hub cache's links from snapshots/REVISION to
    blobs.
    """
    path = directory / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    try:
        root, target = directory.resolve(), path.resolve()
    except (OSError, RuntimeError, ValueError):  # a name that is too long, a circle of links, a null byte
        return path
    allowed = [root, *(parent.parent / "blobs" for parent in root.parents if parent.name == "snapshots")]
    return path if any(target.is_relative_to(folder) for folder in allowed) else None


def cache_dir() -> Path:
    """The folder of files that can be made again (compiled programs, tokenised text): $JAXFT_CACHE or ~/.cache/jaxft."""
    refuse_url("JAXFT_CACHE", os.environ.get("JAXFT_CACHE"))
    root = os.environ.get("JAXFT_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "jaxft")
    return Path(root).expanduser()
