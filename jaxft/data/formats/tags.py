"""Tags that mark entities: IOB1, IOB2, BIOES, BILOU and BMES read, checked, and written as IOB2."""

import re
from collections.abc import Iterable, Sequence

OUTSIDE = "O"
# The letters of each scheme. `auto` takes any of them and reads them as conlleval and seqeval do: a tag that continues no
# entity begins one.
LETTERS = {"auto": "OBIESMLU", "iob1": "OBI", "iob2": "OBI", "bioes": "OBIES", "bilou": "OBILU", "bmes": "OBMES"}
_CLOSED = ("bioes", "bilou", "bmes")  # in which the last word of an entity has a letter of its own
_TAG = re.compile(r"(O)|([BIESMLU])(?:-(.+))?")
# How else tags are written: b-per, B_PER; PER-B. The last group is the type in the one, the letter in the other.
_LOOSE = re.compile(r"(O)|([BIESMLU])(?:[-_](.+))?", re.IGNORECASE)
_SUFFIX = re.compile(r"(O)|(.+)[-_]([BIESMLU])", re.IGNORECASE)


def canonical(tags: Iterable[str]) -> dict[str, str]:
    """Every tag as `parse` reads it: `b-per` and `B_per` are B-per, `PER-B` is B-PER, `o` is O.

    What is no tag of any spelling stays as it is, and so do tags that mark no entity: the spelling is that of all tags, or
    (beside O) of some of them where none is spelt the usual way.

    Args:
      tags: all tags of the data.
    """
    distinct = dict.fromkeys(tags)
    spellings = [{tag: _spelt(tag, pattern) for tag in distinct} for pattern in (_TAG, _LOOSE, _SUFFIX)]
    whole = (found for found in spellings if all(found.values()))
    some = (found for found in spellings if any(found[tag] and tag.upper() != OUTSIDE for tag in distinct))
    usual = any(found and "-" in found for found in spellings[0].values())
    beside = not usual and any(tag.upper() == OUTSIDE for tag in distinct)
    chosen = next(whole, None) or (next(some, None) if beside else None) or {}
    return {tag: chosen.get(tag) or tag for tag in distinct}


def _spelt(tag: str, pattern: re.Pattern[str]) -> str | None:
    match = pattern.fullmatch(tag)
    if match is None:
        return None
    letter, kind = (match[3], match[2]) if pattern is _SUFFIX else (match[2], match[3])
    return OUTSIDE if match[1] else _tag(letter.upper(), kind or "")


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
    if scheme in _CLOSED and before[0] in "BIM":
        return len(tags) - 1, f"which cannot end a sentence ({scheme})"
    return None


def _may_follow(scheme: str, before: tuple[str, str], now: tuple[str, str]) -> bool:
    inside, same = before[0] in "BIM", before[1] == now[1]
    if scheme == "iob2":
        return now[0] != "I" or (inside and same)
    if scheme == "iob1":
        return now[0] != "B" or (inside and same)
    if scheme in _CLOSED:
        return (now[0] in "IMEL") == inside and (same or not inside)
    return True


def to_iob2(tags: Sequence[str]) -> list[str]:
    """The tags of one sentence, in any scheme, as IOB2."""
    found = []
    before, kind_before = OUTSIDE, ""
    for tag in tags:
        letter, kind = parse(tag) or (OUTSIDE, "")
        begins = letter in "BSU" or before in "OESLU" or kind != kind_before
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


def are_entities(labels: Iterable[str]) -> bool:
    """Whether labels are those of a scheme, in any spelling, and of no word classes."""
    spelt = set(canonical(labels).values())
    return mark_entities(spelt) and all(parse(x) for x in spelt)


def are_iob2(labels: Iterable[str]) -> bool:
    """Whether labels are those of IOB2 (or IOB1), spelt as `to_iob2` does."""
    return all((parsed := parse(x)) and parsed[0] in LETTERS["iob2"] for x in labels)


def respelt(tags: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The IOB2 tags of a sentence in the scheme and the spelling of a model's labels.

    Args:
      tags: IOB2.
      labels: of a model, of any scheme; a tag that they lack stays as it is.
    """
    names = {spelt: label for label, spelt in canonical(labels).items()}
    letters = {parsed[0] for spelt in names if (parsed := parse(spelt))}
    found = []
    for i, tag in enumerate(tags):
        letter, _, kind = tag.partition("-")
        ends = i + 1 == len(tags) or tags[i + 1] != _tag("I", kind)
        wanted = {("B", True): "SUB", ("B", False): "B", ("I", True): "ELI", ("I", False): "IM"}.get((letter, ends), "O")
        letter = next((x for x in wanted if x in letters), letter)
        found.append(names.get(_tag(letter, kind), tag))
    return found


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
