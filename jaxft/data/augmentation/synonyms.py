"""Replacing words by synonyms and inserting synonyms (EDA), from a file, WordNet or a table of nearest words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from jaxft.core.errors import UserError
from jaxft.core.utf8 import read_text
from jaxft.data.augmentation.document import FREE, IN_PLACE, Document
from jaxft.data.augmentation.draws import Draws
from jaxft.data.augmentation.order import count_of

Synonyms = Callable[[str], Sequence[str]]  # a word in lower case -> its synonyms


@dataclass(frozen=True)
class Replace:
    """Replaces max(1, floor(rate * words)) words that have synonyms by one of these, capitalised like the word."""

    rate: float
    synonyms: Synonyms
    entities: bool = False

    def __call__(self, document: Document, draws: Draws) -> None:
        """Edit the document."""
        candidates = document.editable(IN_PLACE if self.entities else FREE)
        left, chosen = count_of(self.rate, len(candidates)), []
        for i in draws.shuffled(candidates) if left else ():
            if synonyms := self.synonyms(document.words[i].lower()):
                chosen.append((i, spelled_like(document.words[i], draws.choice(synonyms))))
                if len(chosen) == left:
                    break
        for i, word in sorted(chosen, reverse=True):  # the last first: a word may become several
            document.replace(i, word)


@dataclass(frozen=True)
class Insert:
    """Inserts synonyms of max(1, floor(rate * words)) random words, each behind another random word."""

    rate: float
    synonyms: Synonyms

    def __call__(self, document: Document, draws: Draws) -> None:
        """Edit the document."""
        for _ in range(count_of(self.rate, len(document.editable()))):
            candidates = document.editable()
            for i in draws.shuffled(candidates):
                if synonyms := self.synonyms(document.words[i].lower()):
                    tag = document.tags[i] if document.tags else ""
                    document.insert_after(draws.choice(candidates), draws.choice(synonyms), tag)
                    break
            else:
                return


def spelled_like(word: str, synonym: str) -> str:
    """A synonym in capitals, or with one, if the word has them."""
    if len(word) > 1 and word.isupper():
        return synonym.upper()
    return synonym[:1].upper() + synonym[1:] if word[:1].isupper() else synonym


def from_file(path: str) -> Synonyms:
    """The synonyms of a UTF-8 file, each line `word<TAB>synonym,synonym`, or words that all mean the same, with commas.

    Raises:
      UserError: for a file that cannot be read, is not UTF-8, or has a line without synonyms; the message names the line.
    """
    where, found = f"augment.steps: file {path}", {}
    for number, line in enumerate(read_text(path, where).splitlines(), 1):
        if not line.strip():
            continue
        word, tab, rest = line.partition("\t")
        words = [x.strip() for x in (rest if tab else line).split(",") if x.strip()]
        groups = {word.strip(): words} if tab else dict.fromkeys(words, words)
        if not word.strip() or len(words) < (1 if tab else 2):
            raise UserError(f"{where}: line {number} has no synonyms: must be word<TAB>synonym,synonym or word,word,word")
        for head, others in groups.items():
            known = found.setdefault(head.lower(), [])
            known += [x for x in others if x.lower() != head.lower() and x not in known]
    if not any(found.values()):
        raise UserError(f"{where}: no synonyms")
    return table(found)


def table(found: Mapping[str, Sequence[str]]) -> Synonyms:
    """The synonyms of a dict from words in lower case."""
    return lambda word: found.get(word, ())


def wordnet() -> Synonyms:
    """The lemmas of all senses of a word in WordNet (Miller 1995), through nltk; none for frequent function words.

    Raises:
      UserError: if nltk or its copy of WordNet is not installed.
    """
    try:
        from nltk.corpus import wordnet as words  # pyright: ignore[reportMissingImports]  # an optional package

        words.ensure_loaded()
    except (ImportError, LookupError) as error:
        raise UserError(
            "augment.steps: source wordnet needs the package nltk and its corpus: pip install nltk, then "
            "python -m nltk.downloader wordnet"
        ) from error

    @lru_cache(maxsize=1 << 16)
    def synonyms(word: str) -> tuple[str, ...]:
        if word in FUNCTION_WORDS:
            return ()
        lemmas = (lemma.replace("_", " ") for sense in words.synsets(word) for lemma in sense.lemma_names())
        return tuple(dict.fromkeys(lemma for lemma in lemmas if lemma.lower() != word))

    return synonyms


# Words that WordNet and word embeddings have misleading neighbours of; EDA leaves them alone, too.
_FUNCTION_WORDS = (
    "a about above after again against all am an and any are as at be because been before being below between both "
    "but by can could did do does doing down during each few for from further had has have having he her here hers "
    "herself him himself his how i if in into is it its itself just me more most my myself no nor not now of off on "
    "once only or other our ours ourselves out over own same she should so some such than that the their theirs "
    "them themselves then there these they this those through to too under until up very was we were what when "
    "where which while who whom why will with would you your yours yourself yourselves "
)
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
