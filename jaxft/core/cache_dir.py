"""The folder for everything that jaxft may delete and make again."""

import os
from pathlib import Path

from jaxft.core.urls import refuse_url


def cache_dir() -> Path:
    """The folder for everything that jaxft may delete and make again: compiled programs, tokenised text."""
    refuse_url("JAXFT_CACHE", os.environ.get("JAXFT_CACHE"))
    root = os.environ.get("JAXFT_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "jaxft")
    return Path(root).expanduser()
