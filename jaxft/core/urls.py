"""Refuses URLs given as paths: jaxft reads and writes local files only, and would create folders named `s3:`."""

import re
from collections.abc import Iterable

from jaxft.core.errors import UserError

# At least two letters, since a single letter is a drive; one slash is enough, since normalising a path merges two.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
_HUB = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?:datasets/)?([\w.-]+/[\w.-]+)")


def refuse_url(name: str, value: object) -> None:
    """Raise an error if a path, or any of several, is a URL.

    Args:
      name: the option, for messages.
      value: the given path or paths; values that are not strings are ignored.

    Raises:
      UserError: saying what to give instead.
    """
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
