"""Which texts of a row steps edit, and how the edited row is put together: whole texts, tagged words, questions."""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from jaxft.data.augmentation.document import FIXED, FREE, IN_PLACE, Document, text_document
from jaxft.data.formats.sentences import BEGINS, ENDS, TAGS, TEXT, WORDS
from jaxft.data.formats.squad import NOWHERE
from jaxft.data.formats.tags import OUTSIDE

Row = Mapping[str, Any]
Edit = Callable[[Document], None]
_NO_TAGS: Mapping[str, str] = dict.fromkeys(
    ("replace_mentions", "replace_tagged", "shuffle_segments"), "is for words with tags"
)
_OF_QUESTIONS = {**_NO_TAGS, "drop_pieces": "would move the answers"}


class Fields(abc.ABC):
    """The texts of a row that steps edit.

    Attributes:
      columns: the columns that `edited` reads and returns.

    Class attributes:
      lacks: the steps that these rows cannot use, and why.
      truncated: whether `data.truncation` applies to these texts.
    """

    lacks: Mapping[str, str] = {}
    truncated: ClassVar[bool] = True

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)

    @abc.abstractmethod
    def edited(self, row: Row, edit: Edit) -> dict[str, Any] | None:
        """The columns after an edit of every text; None if a text would be empty, or an answer or a word lost."""

    def as_copy(self, row: dict[str, Any], number: int) -> dict[str, Any]:
        """An edited row that stands beside its original in a file, as copy `number` of it."""
        return row


class TextFields(Fields):
    """Columns of texts, or of lists of texts."""

    lacks = _NO_TAGS

    def edited(self, row: Row, edit: Edit) -> dict[str, Any] | None:
        """The texts; those that are empty or missing stay so."""
        found: dict[str, Any] = {}
        for column in self.columns:
            value = row[column]
            texts = value if isinstance(value, list) else [value]
            new = [_edited_text(text, edit) if text else text for text in texts]
            if None in new and new.count(None) > texts.count(None):
                return None
            found[column] = new if isinstance(value, list) else new[0]
        return found


def _edited_text(text: str, edit: Edit) -> str | None:
    document = text_document(text, whole=True)
    edit(document)
    new = document.text()
    return new if new.strip() or not text.strip() else None


class QuestionFields(Fields):
    """The question, and the context except for the words of its answers."""

    lacks = _OF_QUESTIONS
    truncated = False

    def __init__(self) -> None:
        super().__init__(("question", "context", "answers"))

    def edited(self, row: Row, edit: Edit) -> dict[str, Any] | None:
        """The texts, and the answers at their new places."""
        question = _edited_text(row["question"], edit)
        context, given = row["context"], row["answers"]
        answers = list(zip(given["text"], given["answer_start"], strict=True))
        placed = [(start, start + len(text)) for text, start in answers if start != NOWHERE]
        document = text_document(context, joined(placed))
        old = _fixed_words(document)
        edit(document)
        new, text = _fixed_words(document), document.text()
        if question is None or not text.strip():
            return None
        starts = [_moved(start, old, new) if start != NOWHERE else NOWHERE for _, start in answers]
        if any(at != NOWHERE and not text.startswith(answer, at) for (answer, _), at in zip(answers, starts, strict=True)):
            return None
        edited = {"text": list(given["text"]), "answer_start": starts}
        return {"question": question, "context": text, "answers": edited}

    def as_copy(self, row: dict[str, Any], number: int) -> dict[str, Any]:
        """With an id of its own."""
        return row | {"id": f"{row['id']} copy {number}"}


def _fixed_words(document: Document) -> list[int]:
    """The first characters of the fixed words."""
    return [start for start, limit in zip(document.starts(), document.limits, strict=True) if limit == FIXED]


def _moved(start: int, old: Sequence[int], new: Sequence[int]) -> int:
    """Where a character is after edits that moved fixed words, the last of which before it began at `old`, to `new`."""
    word = max(i for i, first in enumerate(old) if first <= start)
    return start + new[word] - old[word]


def joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans, ascending; those that overlap become one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


class TaggedFields(Fields):
    """Sentences of words with tags: in IOB2 if they mark entities, whose words are only edited by steps that say so."""

    def __init__(self, columns: Sequence[str], *, entities: bool) -> None:
        numbers = [x for x in ("line", "row") if x in columns]
        super().__init__([x for x in (WORDS, TAGS, TEXT, BEGINS, ENDS, *numbers) if x in columns])
        self._entities, self._numbers = entities, numbers
        self.lacks = {"back_translation": "would lose the tags", "drop_pieces": "would lose the tags of words"}
        if not entities:
            self.lacks["replace_mentions"] = "replaces entities, and these tags mark none"

    def document(self, row: Row) -> Document:
        """The sentence; its gaps are those of its text, or single spaces."""
        words, tags = list(row[WORDS]), list(row[TAGS])
        text = row.get(TEXT)
        if text is None:
            gaps = ["", *[" "] * (len(words) - 1), ""]
        else:
            edges = [0, *(x for pair in zip(row[BEGINS], row[ENDS], strict=True) for x in pair), len(text)]
            gaps = [text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
        limits = [_limit(word, tag, self._entities) for word, tag in zip(words, tags, strict=True)]
        return Document(words, gaps, limits, tags)

    def edited(self, row: Row, edit: Edit) -> dict[str, Any] | None:
        """Words and tags, and the text and the places of the words in it if the sentence was split from a text."""
        document = self.document(row)
        edit(document)
        if not all(document.words) or not document.words:
            return None
        found: dict[str, Any] = {WORDS: document.words, TAGS: document.tags}
        if TEXT in row:
            found |= {TEXT: row[TEXT], BEGINS: row[BEGINS], ENDS: row[ENDS]}
        if row.get(TEXT) is not None:
            begins = document.starts()
            ends = [begin + len(word) for begin, word in zip(begins, document.words, strict=True)]
            found |= {TEXT: document.text(), BEGINS: begins, ENDS: ends}
        if all(value == row[name] for name, value in found.items()):
            return dict(row)
        return found | {name: row[name][:1] * len(document) for name in self._numbers}


def _limit(word: str, tag: str, entities: bool) -> int:
    if entities and tag != OUTSIDE:
        return IN_PLACE
    return FREE if any(map(str.isalnum, word)) else FIXED
