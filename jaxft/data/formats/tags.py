"""Tags that mark entities: reads and checks IOB1, IOB2, BIOES, BILOU and BMES, and converts them to IOB2."""

import re
from collections.abc import Iterable, Sequence

OUTSIDE = "O"
# The letters of each scheme. `auto` accepts all of them and reads them as conlleval and seqeval do: a tag that does not
# continue an entity begins one.
LETTERS = {"auto": "OBIESMLU", "iob1": "OBI", "iob2": "OBI", "bioes": "OBIES", "bilou": "OBILU", "bmes": "OBMES"}
_CLOSED = ("bioes", "bilou", "bmes")  # the last word of an entity has a letter of its own
_TAG = re.compile(r"(O)|([BIESMLU])(?:-(.+))?")
# Other spellings: b-per and B_PER, with the type as the last group; PER-B, with the letter as the last group.
_LOOSE = re.compile(r"(O)|([BIESMLU])(?:[-_](.+))?", re.IGNORECASE)
_SUFFIX = re.compile(r"(O)|(.+)[-_]([BIESMLU])", re.IGNORECASE)


def canonical(tags: Iterable[str]) -> dict[str, str]:
    """Maps every tag to the spelling that `parse` reads: `b-per` and `B_per` to B-per, `PER-B` to B-PER, `o` to O.

    Tags in no known spelling, and tags that do not mark entities, are unchanged. One spelling is chosen for all tags of the
    data. If none fits all of them, there is an O, and no tag is in the standard spelling, one that fits some is chosen.
    """
    distinct = dict.fromkeys(tags)
    spellings = [{tag: _standard(tag, pattern) for tag in distinct} for pattern in (_TAG, _LOOSE, _SUFFIX)]
    fit_all = (spelling for spelling in spellings if all(spelling.values()))
    fit_some = (spelling for spelling in spellings if any(spelling[tag] and tag.upper() != OUTSIDE for tag in distinct))
    has_standard = any(tag and "-" in tag for tag in spellings[0].values())
    partial = not has_standard and any(tag.upper() == OUTSIDE for tag in distinct)
    chosen = next(fit_all, None) or (next(fit_some, None) if partial else None) or {}
    return {tag: chosen.get(tag) or tag for tag in distinct}


def _standard(tag: str, pattern: re.Pattern[str]) -> str | None:
    match = pattern.fullmatch(tag)
    if match is None:
        return None
    letter, kind = (match[3], match[2]) if pattern is _SUFFIX else (match[2], match[3])
    return OUTSIDE if match[1] else _tag(letter.upper(), kind or "")


def parse(tag: str) -> tuple[str, str] | None:
    """`B-PER` as (B, PER), `O` as (O, ""), `B` as (B, ""); None if it is not a tag of any scheme."""
    match = _TAG.fullmatch(tag)
    return (match[1] or match[2], match[3] or "") if match else None


def mark_entities(tags: Iterable[str]) -> bool:
    """Whether tags mark entities (some begin with B-, I- ..., or all are bare letters) rather than classify words."""
    distinct = set(tags)
    typed = any((parsed := parse(tag)) and parsed[1] for tag in distinct)
    return typed or (distinct <= set(LETTERS["auto"]) and not distinct.isdisjoint("BI"))


def find_violation(tags: Sequence[str], scheme: str) -> tuple[int, str] | None:
    """(position, what is wrong) of the first tag of a sentence that a scheme of LETTERS does not allow; None if there is
    none."""
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
    """Converts the tags of one sentence from any scheme to IOB2."""
    converted = []
    before, kind_before = OUTSIDE, ""
    for tag in tags:
        letter, kind = parse(tag) or (OUTSIDE, "")
        begins = letter in "BSU" or before in "OESLU" or kind != kind_before
        converted.append(OUTSIDE if letter == OUTSIDE else _tag("B" if begins else "I", kind))
        before, kind_before = letter, kind
    return converted


def spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """The entities of one sentence as (type, first word, one past the last)."""
    entities: list[tuple[str, int, int]] = []
    for i, tag in enumerate(to_iob2(tags)):
        letter, _, kind = tag.partition("-")
        if letter == "B":
            entities.append((kind, i, i + 1))
        elif letter == "I":
            entities[-1] = (kind, entities[-1][1], i + 1)
    return entities


def are_entities(labels: Iterable[str]) -> bool:
    """Whether labels are tags of a scheme, in any spelling, rather than word classes."""
    tags = set(canonical(labels).values())
    return mark_entities(tags) and all(parse(x) for x in tags)


def are_iob2(labels: Iterable[str]) -> bool:
    """Whether labels are tags of IOB2 (or IOB1) in the spelling of `to_iob2`."""
    return all((parsed := parse(x)) and parsed[0] in LETTERS["iob2"] for x in labels)


def to_scheme_of(tags: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Converts the IOB2 tags of a sentence to the scheme and spelling of a model's labels; tags that are not among these are
    unchanged."""
    names = {standard: label for label, standard in canonical(labels).items()}
    letters = {parsed[0] for standard in names if (parsed := parse(standard))}
    converted = []
    for i, tag in enumerate(tags):
        letter, _, kind = tag.partition("-")
        ends = i + 1 == len(tags) or tags[i + 1] != _tag("I", kind)
        wanted = {("B", True): "SUB", ("B", False): "B", ("I", True): "ELI", ("I", False): "IM"}.get((letter, ends), "O")
        letter = next((x for x in wanted if x in letters), letter)
        converted.append(names.get(_tag(letter, kind), tag))
    return converted


def iob2_labels(labels: Iterable[str]) -> list[str]:
    """The IOB2 labels for tags of any scheme: the given IOB2 labels in order, then the missing ones among O and every type's
    B and I, so that a type seen only at the beginning of entities also has a label for their insides."""
    pairs = [parse(x) or (OUTSIDE, "") for x in labels]
    given = [_tag(letter, kind) for letter, kind in pairs if letter in LETTERS["iob2"]]
    kinds = {kind for letter, kind in pairs if letter != OUTSIDE}
    complete = {OUTSIDE} | {_tag(letter, kind) for letter in "BI" for kind in kinds}
    return [*given, *sorted(complete - set(given))]


def _tag(letter: str, kind: str) -> str:
    return f"{letter}-{kind}" if kind else letter
