"""Steps for tagged words: another mention of the same type, another word with the same tag (Dai & Adel 2020,
arXiv:2010.11683)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaxft.core.errors import UserError, some
from jaxft.core.utf8 import read_text
from jaxft.data.augmentation.document import Document
from jaxft.data.augmentation.draws import Draws
from jaxft.data.formats.tags import spans

Tagged = Iterable[tuple[Sequence[str], Sequence[str]]]  # the words and the tags of each sentence


@dataclass(frozen=True)
class ReplaceMentions:
    """Puts another mention of the same type in the place of each entity, with a probability."""

    rate: float
    mentions: Mapping[str, Sequence[tuple[str, ...]]]

    def __call__(self, document: Document, draws: Draws) -> None:
        """Edit the document."""
        assert document.tags is not None
        for kind, start, end in reversed(spans(document.tags)):
            if draws.random() < self.rate and (others := self.mentions.get(kind)):
                words = draws.choice(others)
                tags = document.tags[start : start + 1] + [f"I-{kind}" if kind else "I"] * (len(words) - 1)
                document.replace_span(start, end, words, tags)


def mentions_of(sentences: Tagged) -> dict[str, list[tuple[str, ...]]]:
    """The different mentions of each type, in the order in which they first occur; the tags are in IOB2."""
    found: dict[str, dict[tuple[str, ...], None]] = {}
    for words, tags in sentences:
        for kind, start, end in spans(tags):
            found.setdefault(kind, {})[tuple(words[start:end])] = None
    return {kind: list(mentions) for kind, mentions in found.items()}


def read_mentions(path: str, kinds: Sequence[str]) -> dict[str, list[tuple[str, ...]]]:
    """Mentions by type, from a file with lines `type<TAB>mention`; words of a mention are separated by spaces.

    Raises:
      UserError: for a file that cannot be read, is not UTF-8, or has a malformed line or a type that is not in `kinds`.
    """
    where, found = f"augment.steps: file {path}", {}
    for number, line in enumerate(read_text(path, where).split("\n"), 1):
        if not line.strip():
            continue
        kind, _, mention = line.partition("\t")
        if not mention.split():
            raise UserError(f"{where}: line {number} has no mention: must be type<TAB>mention")
        if kind not in kinds:
            raise UserError(f'{where}: line {number} has the type "{kind}", but those of the data are {some(sorted(kinds))}')
        found.setdefault(kind, []).append(tuple(mention.split()))
    if not found:
        raise UserError(f"{where}: no mentions")
    return found


@dataclass(frozen=True)
class ReplaceTagged:
    """Puts a random word with the same tag in the place of each word, with a probability; words are drawn as often as the
    training data has them with that tag (label-wise token replacement)."""

    rate: float
    words: Mapping[str, Sequence[str]]

    def __call__(self, document: Document, draws: Draws) -> None:
        """Edit the document."""
        assert document.tags is not None
        for i, tag in enumerate(document.tags):
            if draws.random() < self.rate:
                document.words[i] = draws.choice(self.words[tag])


def words_of(sentences: Tagged) -> dict[str, list[str]]:
    """All words with each tag, as often as they occur."""
    found: dict[str, list[str]] = {}
    for words, tags in sentences:
        for word, tag in zip(words, tags, strict=True):
            found.setdefault(tag, []).append(word)
    return found
