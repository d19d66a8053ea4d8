"""File names that a model's files contain must not lead out of the model's directory."""

from pathlib import Path


def path_inside(directory: Path, name: str) -> Path | None:
    """The path of a name relative to a directory, or None if it leads outside.

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
    homes = [root, *(parent.parent / "blobs" for parent in root.parents if parent.name == "snapshots")]
    return path if any(target.is_relative_to(home) for home in homes) else None
