"""Texts in files of their own, in a folder for each label: how IMDB's reviews and many other collections come."""

from pathlib import Path
from typing import Any

from jaxft.errors import UserError


def read_folders(root: Path) -> Any | None:
    """A `datasets.Dataset` of the .txt files in the folders of `root`: columns text, and label, the folder's name.

    Labels take turns, by their shares, and files go by name within a label: any first so many rows have all labels.

    Returns:
      None when no folder of `root` holds .txt files.

    Raises:
      UserError: for a file that is not UTF-8.
    """
    import datasets

    labels = sorted(folder.name for folder in root.iterdir() if folder.is_dir())
    files = {label: sorted((root / label).glob("*.txt")) for label in labels}
    turns = sorted((i / len(paths), label, path) for label, paths in files.items() for i, path in enumerate(paths))
    if not turns:
        return None
    texts = [_text(path) for _, _, path in turns]
    return datasets.Dataset.from_dict({"text": texts, "label": [label for _, label, _ in turns]})


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.object[error.start]:#04x}); convert the file") from error
