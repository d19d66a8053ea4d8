"""Which names in a file of a model directory mean something in that directory."""

from pathlib import Path


def inside(directory: Path, name: str) -> Path | None:
    """What a file of a directory calls by a name; None for what lies outside of it.

    Links out of a directory are outside, too, but for those of the hub's cache, from snapshots/REVISION to blobs.
    """
    path = directory / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    try:
        root, target = directory.resolve(), path.resolve()
    except (OSError, RuntimeError, ValueError):  # a name that is too long, links in a circle, a null byte
        return path
    homes = [root, *(parent.parent / "blobs" for parent in root.parents if parent.name == "snapshots")]
    return path if any(target.is_relative_to(home) for home in homes) else None
