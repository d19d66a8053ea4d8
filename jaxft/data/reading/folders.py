"""Reads a directory with one folder per label and one text file per example, such as IMDB's reviews."""

from pathlib import Path
from typing import Any

from jaxft.core.utf8 import read_text


def read_folders(root: Path) -> Any | None:
    """Reads the .txt files in the folders of `root`: their texts, and as labels the names of their folders.

    Labels are interleaved in proportion to their numbers of files, and files are sorted by name within a label, so the first
    N rows contain all labels for any N that is not small. Hidden folders and files are ignored.

    Returns:
      A `datasets.Dataset` with the columns text and label; None if no folder of `root` contains .txt files.

    Raises:
      UserError: for a file that is not UTF-8.
    """
    import datasets

    labels = sorted(folder.name for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    files = {x: sorted(p for p in (root / x).glob("*.txt") if not p.name.startswith(".")) for x in labels}
    interleaved = sorted((i / len(paths), label, path) for label, paths in files.items() for i, path in enumerate(paths))
    if not interleaved:
        return None
    texts = [read_text(path) for _, _, path in interleaved]
    return datasets.Dataset.from_dict({"text": texts, "label": [label for _, label, _ in interleaved]})
