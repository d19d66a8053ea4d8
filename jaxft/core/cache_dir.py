"""The folder of files that can be deleted at any time, because jaxft makes them again."""

import os
from pathlib import Path

from jaxft.core.urls import refuse_url


def cache_dir() -> Path:
    """The folder of compiled programs and tokenised text: $JAXFT_CACHE, or `jaxft` in the user's cache folder."""
    refuse_url("JAXFT_CACHE", os.environ.get("JAXFT_CACHE"))
    root = os.environ.get("JAXFT_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "jaxft")
    return Path(root).expanduser()
