"""Pieces of html and svg. Whatever is not made here is escaped, because the texts of a data set may hold markup."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

_VOID = {"br", "hr", "link", "meta", "circle", "line", "path", "polyline", "rect"}
# Browsers drop control characters, or end a document at them; their pictures are shown instead.
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n\r"} | {127: "\u2421"}


class Markup(str):
    """Text that is html or svg already."""


def escape(value: Any) -> Markup:
    """A value as text of a document; Markup as it is; nothing for None; the members of a list or an iterator in order."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return Markup()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return Markup("".join(map(escape, value)))
    text = str(value).translate(_PICTURES)
    return Markup(html.escape(text.encode("utf-8", "replace").decode()))


def element(kind: str, /, *children: Any, **attributes: Any) -> Markup:
    """An element: `class_` is the attribute `class`, `aria_label` is `aria-label`; attributes that are None are left out."""
    given = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    start = "".join([kind, *(f' {key}="{escape(str(value))}"' for key, value in given)])
    if kind in _VOID and not children:
        return Markup(f"<{start}/>")
    return Markup(f"<{start}>{escape(children)}</{kind}>")


def table(head: Sequence[Any], rows: Iterable[Iterable[Any]], *, label: str, numbers_from: int = 1) -> Markup:
    """A table that can be scrolled with the keyboard.

    Args:
      head: the names of the columns.
      rows: the cells of each row, of which the first is the row's name.
      label: what a screen reader says.
      numbers_from: columns from this one on are aligned to the right.
    """
    side = ["number" if i >= numbers_from else None for i, _ in enumerate(head)]
    columns = [element("th", name, scope="col", class_=x) for name, x in zip(head, side, strict=True)]
    body = []
    for first, *others in rows:
        cells = [element("td", cell, class_=x) for cell, x in zip(others, side[1:], strict=True)]
        body.append(element("tr", element("th", first, scope="row"), cells))
    inner = element("table", element("thead", element("tr", columns)), element("tbody", body))
    return element("div", inner, class_="scroll", role="region", tabindex="0", aria_label=label)


def section(title: str, *content: Any, about: str | None = None) -> Markup:
    """A section of the page, with a line that says how to read it."""
    note = element("p", about, class_="about") if about else None
    name = anchor(title)
    return element(
        "section", element("h2", title, id=f"{name}-title"), note, content, id=name, aria_labelledby=f"{name}-title"
    )


def anchor(title: str) -> str:
    """The id of a section."""
    return "-".join(title.lower().split())


def number(value: Any) -> str:
    """A number as people write it: 4 significant digits, thousands with commas; `-` for what is unknown."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (abs(value) >= 1000 and math.isfinite(value)):
        return f"{round(value):,}"
    return f"{value:.4g}"


def cut(text: str, most: int = 600) -> str:
    """A text with its middle left out if it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most - 100]} [...] {text[-90:]}"
