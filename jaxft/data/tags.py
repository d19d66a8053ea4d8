"""Tags that mark entities: IOB1, IOB2, BIOES and BMES read, checked, and written as IOB2."""

import re
from collections.abc import Iterable, Sequence

OUTSIDE = "O"
# The letters of each scheme. `auto` takes any of them and reads them as conlleval and seqeval do: a tag that continues no
# entity begins one.
LETTERS = {"auto": "OBIESM", "iob1": "OBI", "iob2": "OBI", "bioes": "OBIES", "bmes": "OBMES"}
_TAG = re.compile(r"(O)|([BIESM])(?:-(.+))?")


def parse(tag: str) -> tuple[str, str] | None:
    """`B-PER` as (B, PER), `O` as (O, ""), `B` as (B, ""); None for what is a tag of no scheme."""
    match = _TAG.fullmatch(tag)
    return (match[1] or match[2], match[3] or "") if match else None


def mark_entities(tags: Iterable[str]) -> bool:
    """Whether tags mark entities (some begin with B-, I- ..., or all are bare letters); otherwise they are word classes."""
    distinct = set(tags)
    typed = any((parsed := parse(tag)) and parsed[1] for tag in distinct)
    return typed or (distinct <= set(LETTERS["auto"]) and not distinct.isdisjoint("BI"))


def fault(tags: Sequence[str], scheme: str) -> tuple[int, str] | None:
    """(position, what is wrong) of the first tag of a sentence that a scheme does not allow.

    Args:
      tags: of one sentence.
      scheme: a name of LETTERS.
    """
    before = (OUTSIDE, "")
    for i, tag in enumerate(tags):
        now = parse(tag)
        if now is None or now[0] not in LETTERS[scheme]:
            letters = ", ".join(f"{x}-" for x in LETTERS[scheme][1:])
            return i, f"which is neither O nor begins with {letters} ({scheme})"
        if not _may_follow(scheme, before, now):
            return i, f"which cannot {f'follow {tags[i - 1]}' if i else 'begin a sentence'} ({scheme})"
        before = now
    if scheme in ("bioes", "bmes") and before[0] in "BIM":
        return len(tags) - 1, f"which cannot end a sentence ({scheme})"
    return None


def _may_follow(scheme: str, before: tuple[str, str], now: tuple[str, str]) -> bool:
    inside, same = before[0] in "BIM", before[1] == now[1]
    if scheme == "iob2":
        return now[0] != "I" or (inside and same)
    if scheme == "iob1":
        return now[0] != "B" or (inside and same)
    if scheme in ("bioes", "bmes"):
        return (now[0] in "IME") == inside and (same or not inside)
    return True


def to_iob2(tags: Sequence[str]) -> list[str]:
    """The tags of one sentence, in any scheme, as IOB2."""
    found = []
    before, kind_before = OUTSIDE, ""
    for tag in tags:
        letter, kind = parse(tag) or (OUTSIDE, "")
        begins = letter in "BS" or before in "OES" or kind != kind_before
        found.append(OUTSIDE if letter == OUTSIDE else _tag("B" if begins else "I", kind))
        before, kind_before = letter, kind
    return found


def spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """The entities of one sentence as (type, first word, one past the last)."""
    found: list[tuple[str, int, int]] = []
    for i, tag in enumerate(to_iob2(tags)):
        letter, _, kind = tag.partition("-")
        if letter == "B":
            found.append((kind, i, i + 1))
        elif letter == "I":
            found[-1] = (kind, found[-1][1], i + 1)
    return found


def are_iob2(labels: Iterable[str]) -> bool:
    """Whether labels are those of IOB2 (or IOB1)."""
    labels = list(labels)
    return mark_entities(labels) and all((parsed := parse(x)) and parsed[0] in LETTERS["iob2"] for x in labels)


def iob2_labels(labels: Iterable[str]) -> list[str]:
    """The labels of IOB2 for tags of any scheme: those given, in their order, then what is missing of O and every type's
    B and I, so that a type seen at the beginning of an entity is known inside of one."""
    pairs = [parse(x) or (OUTSIDE, "") for x in labels]
    given = [_tag(letter, kind) for letter, kind in pairs if letter in LETTERS["iob2"]]
    kinds = {kind for letter, kind in pairs if letter != OUTSIDE}
    every = {OUTSIDE} | {_tag(letter, kind) for letter in "BI" for kind in kinds}
    return [*given, *sorted(every - set(given))]


def _tag(letter: str, kind: str) -> str:
    return f"{letter}-{kind}" if kind else letter
