"""Words that a masked language model proposes in the place of others, or between them (TinyBERT's augmentation, Jiao et al.
2020, arXiv:1909.10351)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxft.data.augmentation.document import Document
from jaxft.data.augmentation.draws import Draws
from jaxft.data.augmentation.order import count_of
from jaxft.data.augmentation.synonyms import FUNCTION_WORDS, spelled_like

Proposals = Callable[[Sequence[str]], list[list[list[str]]]]  # texts -> for each mask of each text, words, the best first


class Mask(str):
    """A mask token in the place of a word; `taken` is the word, empty for an inserted mask."""

    taken: str = ""


@dataclass(frozen=True)
class MaskWords:
    """Puts masks in the place of max(1, floor(rate * words)) words other than function words, or inserts as many masks."""

    rate: float
    mask: str
    insert: bool = False

    def __call__(self, document: Document, draws: Draws) -> None:
        """Edit the document."""
        candidates = document.editable()
        if self.insert:
            chosen = draws.some(candidates, count_of(self.rate, len(candidates)))
            for i in sorted(chosen, reverse=True):
                document.insert_after(i, Mask(self.mask), "")
            return
        words = document.words
        candidates = [i for i in candidates if words[i].isalpha() and words[i].lower() not in FUNCTION_WORDS]
        for i in draws.some(candidates, count_of(self.rate, len(candidates))):
            mask = Mask(self.mask)
            mask.taken = words[i]
            words[i] = mask


def taken_words(document: Document) -> list[str]:
    """The words in whose place the masks of a document stand, in the order of the masks."""
    return [word.taken for word in document.words if isinstance(word, Mask)]


def fill_masks(
    text: str, mask: str, taken: Sequence[str], proposed: Sequence[Sequence[str]], count: int, draws: Draws
) -> str | None:
    """A text with a word in the place of each mask: one of the `count` best that is not the word that was there.

    Returns:
      None if the text has masks of its own or is cut before one, or if the model proposes no word for one.
    """
    parts = text.split(mask)
    if len(parts) != len(taken) + 1 or len(proposed) != len(taken):
        return None
    filled = parts[0]
    for word, found, rest in zip(taken, proposed, parts[1:], strict=True):
        others = [x for x in found if x.isalpha() and x.lower() != word.lower()][:count]
        if not others:
            return None
        filled += spelled_like(word, draws.choice(others)) + rest
    return filled
