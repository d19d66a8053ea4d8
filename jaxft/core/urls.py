"""Paths that are URLs, which nothing here reads or writes yet: as local paths they would be folders called `s3:`."""

import re
from collections.abc import Iterable

from jaxft.core.errors import UserError

# Two letters at least, since one is a drive; a single slash is what is left of two by whatever tidies paths.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
_HUB = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?:datasets/)?([\w.-]+/[\w.-]+)")


def refuse_url(name: str, value: object) -> None:
    """Refuse a path, or any of several, that is a URL.

    Args:
      name: the option, for messages.
      value: what was given; what is no text is no path.

    Raises:
      UserError: saying what to give instead.
    """
    if isinstance(value, Iterable) and not isinstance(value, str):
        for each in value:
            refuse_url(name, each)
        return
    found = _URL.match(str(value).strip()) if isinstance(value, str) else None
    if found is None or found[1] == "package":
        return
    if hub := _HUB.match(str(value).strip()):
        right = f"the hub id {hub[1]}, or a local path"
    elif found[1].lower() == "file":
        right = f"the plain path /{str(value).strip()[found.end() :]}"
    else:
        right = "a local path: copy the files to or from there, or mount it"
    raise UserError(f"{name} is {value}: URLs ({found[1]}://) are neither read nor written; give {right}")
