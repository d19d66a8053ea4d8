"""Paths from users and files: URLs are refused, names must not lead out of a directory; and the user's cache folder."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from jaxft.core.errors import UserError

# At least two letters, since a single letter is a drive; one slash is enough, since normalising a path merges two.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
_HUB = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?:datasets/)?([\w.-]+/[\w.-]+)")


def refuse_url(name: str, value: object) -> None:
    """Raise a UserError if an option's value is a URL, or a list with one: it would be read as a folder named `s3:`."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        for each in value:
            refuse_url(name, each)
        return
    scheme = _URL.match(str(value).strip()) if isinstance(value, str) else None
    if scheme is None or scheme[1] == "package":
        return
    if hub := _HUB.match(str(value).strip()):
        right = f"the hub id {hub[1]}, or a local path"
    elif scheme[1].lower() == "file":
        right = f"the plain path /{str(value).strip()[scheme.end() :]}"
    else:
        right = "a local path: copy the files to or from there, or mount it"
    raise UserError(f"{name} is {value}: URLs ({scheme[1]}://) are neither read nor written; give {right}")


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
