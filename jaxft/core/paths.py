"""Paths from users and files: which are URLs, names must not lead out of a directory; and the user's cache folder."""

import os
import re
from collections.abc import Iterable, Iterator
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
    for url, given, rest in _urls_in(value):
        scheme = given.lower()
        if scheme == "package":
            continue
        if scheme in ("file", "local") and plain(url) == url:
            raise UserError(f"{name} is {url}: give the plain path /{rest}")
        if url != url.strip():
            raise UserError(f'{name} is "{url}": the URL begins or ends with a space')
        if hub := _HUB.match(url):
            raise UserError(f"{name} is {url}: a page of the hub, not a file: give the hub id {hub[1]}, or a local path")
        if not url[len(scheme) + 1 :].startswith("//"):
            raise UserError(f"{name} is {url}: a URL has two slashes: give {scheme}://{rest}")
        if "::" in url:
            raise UserError(f"{name} is {url}: URLs within URLs (::) are not read: give the URL of a file or directory")


def refuse_url(name: str, value: object) -> None:
    """Raise a UserError if an option's value is a URL, or a list with one: it would be read as a folder named `s3:`."""
    for url, scheme, rest in _urls_in(value):
        if scheme != "package":
            right = f"the plain path /{rest}" if scheme.lower() == "file" else "a local path"
            raise UserError(f"{name} is {url}: must be on this machine, or mounted: give {right}")


def _urls_in(value: object) -> Iterator[tuple[str, str, str]]:
    """(a URL as it was given, its scheme, what follows the slashes) of an option's value, or of each value in a list."""
    if isinstance(value, str):
        if found := _URL.match(value.strip()):
            yield value, found[1], value.strip()[found.end() :]
    elif isinstance(value, Iterable):
        for each in value:
            yield from _urls_in(each)


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
