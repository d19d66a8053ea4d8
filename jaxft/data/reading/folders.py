"""Texts in files of their own, in a folder for each label: how IMDB's reviews and many other collections come."""

from pathlib import Path
from typing import Any

from jaxft.core.utf8 import read_text


def read_folders(root: Path) -> Any | None:
    """A `datasets.Dataset` of the .txt files in the folders of `root`: columns text, and label, the folder's name.

    Labels take turns, by their shares, and files go by name within a label: any first so many rows have all labels. Hidden
    folders and files are none.

    Returns:
      None when no folder of `root` holds .txt files.

    Raises:
      UserError: for a file that is not UTF-8.
    """
    import datasets

    labels = sorted(folder.name for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    files = {x: sorted(p for p in (root / x).glob("*.txt") if not p.name.startswith(".")) for x in labels}
    turns = sorted((i / len(paths), label, path) for label, paths in files.items() for i, path in enumerate(paths))
    if not turns:
        return None
    texts = [read_text(path) for _, _, path in turns]
    return datasets.Dataset.from_dict({"text": texts, "label": [label for _, label, _ in turns]})
