"""Cleans tagged sentences: words with their tags, or texts with the entities in them; and makes tables of them."""

from collections.abc import Iterator, Sequence
from typing import Any

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.cleaning.cleaner import Cleaned, Cleaner
from jaxft.data.formats.entities import Span, tags_of
from jaxft.data.formats.sentences import BEGINS, ENDS, TAGS, TEXT, WORDS, Sentence, Sentences, say_if, split_mode
from jaxft.data.formats.split_text import split_text
from jaxft.data.formats.tags import OUTSIDE, spans
from jaxft.data.reading.columns import arrow_chunks
from jaxft.data.reading.row_numbers import locate


def clean_sentences(sentences: Sentences, config: DataConfig, how: str, where: str) -> None:
    """Replaces sentences by cleaned ones, which refer to their `own` form in the file.

    Texts that are split around punctuation are cleaned as a whole and split again; entities are carried along. Of other
    sentences each word is cleaned on its own, so it keeps its tag; one without an entity may become empty.

    Args:
      sentences: as they were read; those that become empty are treated as `data.empty_texts` says.
      config: its `clean` and `empty_texts`.
      how: how texts were split into words (see `split_text`).
      where: the file, for messages.

    Raises:
      UserError: naming the row, if a step removes or cuts an entity, unless `data.empty_texts` drops such rows.
    """
    clean = Cleaner(config.clean)
    if not clean:
        return
    items, sentences.items = sentences.items, []
    lost = 0
    for item in items:
        number = item.numbers[0]
        file, row = locate(sentences.files, number, where)
        name = f"{file}: {sentences.unit} {row}"
        if item.empty:
            sentences.items.append(item)
            continue
        whole = item.text is not None and how == "punctuation"
        found, fault = _of_text(item, clean) if whole else _of_words(item, clean)
        if fault and config.empty_texts == "error":
            raise UserError(
                f"{name}: data.clean removes or cuts {fault}; leave out the step that does, or such sentences with "
                "data.empty_texts drop"
            )
        if fault:
            lost += 1
        elif not any(word.strip() for word in found.words):
            sentences.add_wordless(number, config.empty_texts, f"{name} has no words after data.clean")
        else:
            sentences.items.append(found)
    say_if(lost, f"{where}: left out {lost:,} {sentences.unit}s with an entity that data.clean removes or cuts")


def _of_words(item: Sentence, clean: Cleaner) -> tuple[Sentence, str]:
    """(the sentence with every word cleaned, the entity that is lost or "")."""
    words = [clean(word).text for word in item.words]
    tagged = zip(item.words, words, item.tags or [OUTSIDE] * len(words), strict=True)
    fault = next((f'"{own}" ({tag})' for own, word, tag in tagged if not word.strip() and tag != OUTSIDE), "")
    return Sentence(words, item.tags, item.numbers, item.text, item.bounds, own=item), fault


def _of_text(item: Sentence, clean: Cleaner) -> tuple[Sentence, str]:
    """(the sentence with its text cleaned and split again, the entity that is lost or "")."""
    assert item.text is not None
    cleaned, carried = clean(item.text), []
    for kind, first, past in spans(item.tags):
        start, end = item.bounds[first][0], item.bounds[past - 1][1]
        place = _stripped(cleaned, cleaned.span(start, end))
        if place is None:
            return item, f'"{item.text[start:end]}" ({kind})'
        carried.append(Span(kind, *place))
    if item.tags:
        bounds, tags, _ = tags_of(cleaned.text, carried, "punctuation")
    else:
        bounds, tags = split_text(cleaned.text, "punctuation"), []
    there = [cleaned.own_span(*bound) for bound in bounds]
    numbers = item.numbers[:1] * len(bounds)
    own = Sentence([item.text[a:b] for a, b in there], tags, numbers, item.text, there)
    words = [cleaned.text[a:b] for a, b in bounds]
    return Sentence(words, tags, numbers, cleaned.text, bounds, own=own), ""


def _stripped(cleaned: Cleaned, span: Sequence[int] | None) -> tuple[int, int] | None:
    """A span without white space at its ends; None if nothing is left."""
    start, end = span or (0, 0)
    words = split_text(cleaned.text[start:end], "spaces")
    return (start + words[0][0], start + words[-1][1]) if words else None


def sentence_tables(rows: Any, text: str, label: str, how: str | None) -> Iterator[Any]:
    """Sentences, as `Sentences.rows` gives them, as Arrow tables with two columns.

    Args:
      rows: labelled.
      text, label: the names of the columns. If texts were split around punctuation, the columns hold the texts and spans
        {start, end, label}; otherwise lists of words, without those that cleaning emptied, and of their tags.
      how: `data.split_words`.
    """
    import pyarrow as pa

    if how != "spaces" and split_mode(rows) == "punctuation":
        for chunk in arrow_chunks(rows, [TEXT, BEGINS, ENDS, TAGS]):
            columns = chunk.to_pydict()
            found = [
                [{"start": b[first], "end": e[past - 1], "label": kind} for kind, first, past in spans(tags)]
                for b, e, tags in zip(columns[BEGINS], columns[ENDS], columns[TAGS], strict=True)
            ]
            kind = pa.struct({"start": pa.int32(), "end": pa.int32(), "label": pa.string()})
            yield pa.table({text: chunk.column(TEXT), label: pa.array(found, pa.list_(kind))})
        return
    for chunk in arrow_chunks(rows, [WORDS, TAGS]):
        columns = chunk.to_pydict()
        kept = [
            [(word, tag) for word, tag in zip(words, tags, strict=True) if word.strip()]
            for words, tags in zip(columns[WORDS], columns[TAGS], strict=True)
        ]
        yield pa.table({text: [[word for word, _ in x] for x in kept], label: [[tag for _, tag in x] for x in kept]})
