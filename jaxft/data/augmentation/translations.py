"""Back-translations, which another program has written into a file (Sennrich et al. 2016, arXiv:1511.06709)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxft.core.errors import UserError
from jaxft.core.utf8 import read_text
from jaxft.data.augmentation.document import Document
from jaxft.data.augmentation.draws import Draws


@dataclass(frozen=True)
class BackTranslation:
    """Puts one of its translations in the place of a text, with a probability; a text without one stays."""

    rate: float
    translations: Mapping[str, Sequence[str]]

    def __call__(self, document: Document, draws: Draws) -> None:
        """Edit the document."""
        if not document.whole or draws.random() >= self.rate:
            return
        if found := self.translations.get(" ".join(document.text().split())):
            document.replace_all(draws.choice(found))


def read_translations(path: str) -> dict[str, list[str]]:
    """Translations by text, whose runs of white space are one space each.

    Raises:
      UserError: for a file that cannot be read, is not UTF-8, or has a line without a translation; the message names it.
    """
    where, found = f"augment.steps: file {path}", {}
    for number, line in enumerate(read_text(path, where).split("\n"), 1):
        if not line.strip():
            continue
        text, *others = line.rstrip("\r").split("\t")
        if not text.strip() or not others or not all(x.strip() for x in others):
            raise UserError(f"{where}: line {number} has an empty text or translation: must be text<TAB>translation")
        found.setdefault(" ".join(text.split()), []).extend(x.strip() for x in others)
    if not found:
        raise UserError(f"{where}: no translations")
    return found
