"""Tables in Markdown pages, each between the marks `<!-- name -->` and `<!-- /name -->`."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxft.core.errors import UserError


def table(heads: Iterable[str], body: Iterable[Iterable[Any]]) -> list[str]:
    """The lines of a Markdown table."""
    heads = list(heads)
    return [_row(heads), "|---" * len(heads) + "|", *map(_row, body)]


def _row(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def section(name: str, lines: Iterable[str]) -> str:
    """Lines between the marks of a section."""
    return "\n".join([f"<!-- {name} -->", *lines, f"<!-- /{name} -->"])


def write(page: Path, sections: Mapping[str, Iterable[str]]) -> None:
    """Replace sections of a page.

    Raises:
      UserError: if the page does not have exactly one pair of marks for a section.
    """
    text = page.read_text(encoding="utf-8")
    for name, lines in sections.items():
        made = section(name, lines)
        text, count = re.subn(f"<!-- {name} -->.*?<!-- /{name} -->", lambda _, made=made: made, text, flags=re.DOTALL)
        if count != 1:
            raise UserError(f"{page}: {count} sections <!-- {name} -->, not 1")
    page.write_text(text, encoding="utf-8")
