"""Questions about contexts, in every form in which they come, as one table: id, question, context, answers.

The forms: SQuAD's own json (data, paragraphs, qas; versions 1 and 2), rows whose `answers` are {text, answer_start} as on
the hub, and rows with the text of one answer and the place where it starts, as in csv files.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from jaxft.config import DataConfig
from jaxft.core import distributed
from jaxft.core.errors import UserError, nearest
from jaxft.data.reading import files
from jaxft.data.reading.columns import CHUNK
from jaxft.data.reading.empty_texts import PLACEHOLDER, with_placeholders
from jaxft.data.reading.json_rows import is_unicode, rows_of
from jaxft.data.reading.row_numbers import row_names
from jaxft.data.reading.sources import read_rows

NOWHERE = -1  # answer_start of an answer that is not where the data says


@dataclass
class Question:
    """A question, its context, and its answers as (text, first character)."""

    id: str
    question: str
    context: str
    where: str
    answers: list[tuple[str, int]] = field(default_factory=list)
    single: bool = True  # whether a row held one answer, so that others may follow
    odd: bool = False  # whether it lacks a text, and stands in the place of its row (see `data/odd`)


def read_questions(config: DataConfig, split: str, *, labelled: bool, misplaced: Literal["error", "drop"]) -> Any:
    """A split as a `datasets.Dataset` of id, question, context, and answers {text: [...], answer_start: [...]}.

    Args:
      config: which files or hub data set, and the names of their columns.
      split: train, validation or test: a field of `config`.
      labelled: whether answers are read, those of one question from all rows of its id; without, every row is a question
        by itself, whatever its id, and has none.
      misplaced: what to do with answers that are not at their offset: `drop` gives them the offset NOWHERE, leaves
        training questions out that have no other, and says how many there were.

    Raises:
      UserError: for what cannot be read, an id that stands for two questions, an empty text, or a misplaced answer.
    """
    import datasets

    origin = files.origin(config, split)
    found: dict[str | int, Question] = {}  # by their ids, or by their numbers where they stand for themselves
    for number, (where, values) in enumerate(_records(config, split, labelled), 1):
        one = _question(values, where, number, config)
        if one is None:
            continue
        first = found.setdefault(one.id if labelled and "id" in values else number, one)
        if first is one:
            continue
        if not (one.single and first.single) or (one.question, one.context) != (first.question, first.context):
            file, _, place = first.where.rpartition(": ")
            before = place if one.where.startswith(f"{file}: ") else first.where
            raise UserError(f'{one.where}: the id "{one.id}" stands twice (first in {before})')
        first.answers += one.answers
    questions = list(found.values())
    if not questions:
        raise UserError(f"{origin}: no questions")
    lost = _place(questions, origin, misplaced)
    if lost and split == "train":
        questions = [q for q in questions if not q.answers or any(start != NOWHERE for _, start in q.answers)]
        if not questions:
            raise UserError(f"{origin}: no answer is at its offset")
    text, whole = datasets.Value("string"), datasets.Value("int32")
    answers = {"text": datasets.List(text), "answer_start": datasets.List(whole)}
    rows = datasets.Dataset.from_dict(
        {
            "id": [q.id for q in questions],
            "question": [q.question for q in questions],
            "context": [q.context for q in questions],
            "answers": [{"text": [t for t, _ in q.answers], "answer_start": [s for _, s in q.answers]} for q in questions],
        },
        features=datasets.Features({"id": text, "question": text, "context": text, "answers": answers}),
    )
    return with_placeholders(rows, np.array([q.odd for q in questions]), {})


def _records(config: DataConfig, split: str, labelled: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, {id, question, context, answers, answer_start}) of every row; what a row lacks is missing there."""
    origin = files.origin(config, split)
    names = {"id": config.id, "question": config.question, "context": config.context}
    answers = {"answers": config.answers, "answer_start": config.answer_start} if labelled else {}
    needed = [config.question, config.context, *([config.answers] if labelled else [])]
    rows: Iterable[tuple[str, str, dict[str, Any]]] | None = _documents(config, split)
    if rows is None:
        wanted = [config.id, *([config.answer_start] if labelled else [])]
        table = read_rows(config, split, needed=needed, wanted=wanted, kinds={config.question: str, config.context: str})
        where = row_names(table, origin)
        rows = ((where(i), "", row) for i, row in enumerate(_rows(table)))
    for i, (where_row, where_article, row) in enumerate(rows):
        if "paragraphs" in row:
            yield from _article(row, where_article, labelled)
            continue
        for column in needed:
            if column not in row and not (config.empty_texts == "null" and i):
                raise UserError(f'{where_row} has no "{column}" ({", ".join(row)}){nearest(column, row)}')
        yield where_row, {ours: row[theirs] for ours, theirs in (names | answers).items() if theirs in row}


def _rows(rows: Any) -> Iterator[dict[str, Any]]:
    """The rows of a `datasets.Dataset`, read in chunks."""
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        yield from (dict(zip(chunk, values, strict=True)) for values in zip(*chunk.values(), strict=True))


def _article(article: Mapping[str, Any], where: str, labelled: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    for j, paragraph in enumerate(_list(article, "paragraphs", where)):
        at = f"{where}.paragraphs[{j}]"
        for k, row in enumerate(_list(paragraph, "qas", at)):
            values = {name: row[name] for name in ("id", "question") if name in row}
            if labelled:
                values["answers"] = _list(row, "answers", f"{at}.qas[{k}]")
            yield f"{at}.qas[{k}]", values | ({"context": paragraph["context"]} if "context" in paragraph else {})


def _list(values: Mapping[str, Any], name: str, where: str) -> list[Any]:
    """A list of mappings that must be there."""
    found = values.get(name)
    if not isinstance(found, list) or not all(isinstance(x, dict) for x in found):
        raise UserError(f'{where} has no list of "{name}" as SQuAD has it')
    return found


def _documents(config: DataConfig, split: str) -> list[tuple[str, str, Any]] | None:
    """The rows of json documents, articles of the SQuAD format among them; None for other files, and for a row a line.

    Each stands behind two names of its place, of a row and of an article.
    """
    if config.dataset:
        return None
    found: list[tuple[str, str, Any]] = []
    for file in files.files_of(config, split):
        if file.is_dir() or files.kind(file) != ".json":
            return None
        try:
            document = json.loads(files.content(file).decode("utf-8-sig"))
        except (ValueError, RecursionError):
            return None
        rows = rows_of(document, str(file), lists=False)
        if not all(isinstance(row, dict) for row in rows) or (rows == [document] and config.question not in document):
            raise UserError(f'{file}: not in the SQuAD format: must be {{"data": [...]}} or a list of rows')
        found += ((f"{file}: row {i + 1}", f"{file}: data[{i}]", row) for i, row in enumerate(rows))
    return found


def _question(values: Mapping[str, Any], where: str, number: int, config: DataConfig) -> Question | None:
    """One row, checked; None for an empty text that is to be dropped."""
    texts, odd = {}, False
    for name in ("question", "context"):
        column = getattr(config, name)
        if not isinstance(text := values.get(name), str | None) and config.empty_texts == "null":
            text = None
        if not isinstance(text, str | None):
            raise UserError(f'{where} has {text!r} in "{column}": must be text')
        if text and not is_unicode(text):
            if config.empty_texts != "null":
                raise UserError(f'{where} has {repr(text)[:60]} in "{column}": must be text without lone surrogates')
            text = None
        text = text or ""
        if name == "context" and config.no_answer:
            text = text.removesuffix(config.no_answer)
        if not text.strip():
            if config.empty_texts == "drop":
                return None
            if config.empty_texts == "null":
                odd, text = True, PLACEHOLDER
        if not text.strip():
            raise UserError(f'{where} has an empty {name} in "{column}" (data.empty_texts drop leaves such rows out)')
        texts[name] = text
    key = values.get("id", number)
    if config.empty_texts == "null" and (key is None or not str(key).strip()):
        key = number
    if key is None or not str(key).strip():
        raise UserError(f'{where} has no id in "{config.id}"')
    if not is_unicode(str(key)):
        raise UserError(f'{where} has {repr(key)[:60]} in "{config.id}": must be text without lone surrogates')
    answers, single = _answers(values, f'{where} (question "{key}")', config)
    return Question(str(key), **texts, where=where, answers=answers, single=single, odd=odd)


def _answers(values: Mapping[str, Any], where: str, config: DataConfig) -> tuple[list[tuple[str, int]], bool]:
    """(answers, whether the row has the form of a single one); empty answers are left out."""
    given = values.get("answers")
    single = given is None or isinstance(given, str)
    if isinstance(given, str):
        if given and given != config.no_answer and "answer_start" not in values:
            raise UserError(f'{where}: no column "{config.answer_start}" says where the answer starts (data.answer_start)')
        pairs = [(given, values.get("answer_start"))]
    elif isinstance(given, Mapping):
        texts, starts = given.get("text"), given.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise UserError(f'{where}: answers must be {{"text": [...], "answer_start": [...]}} of one length')
        pairs = list(zip(texts, starts, strict=True))
    elif isinstance(given, list) and all(isinstance(answer, Mapping) for answer in given):
        pairs = [(answer.get("text"), answer.get("answer_start")) for answer in given]
    elif given is None:
        pairs = []
    else:
        raise UserError(f'{where}: answers are {given!r}: must be {{"text": [...], "answer_start": [...]}}')
    for text, _ in pairs:
        if not isinstance(text, str):
            raise UserError(f"{where}: an answer is {text!r}: must be text")
        if not is_unicode(text):
            raise UserError(f"{where}: an answer is {repr(text)[:60]}: must be text without lone surrogates")
    return [(text, _start(start, where)) for text, start in pairs if text.strip() and text != config.no_answer], single


def _start(value: Any, where: str) -> int:
    """A character's number, also from `12`, `12.0` and `(12, 20)`."""
    found = re.match(r"\s*[(\[]?\s*(-?\d{1,18})(?:\.0*)?(?![\w.])", value) if isinstance(value, str) else None
    if found:
        return int(found[1])
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    raise UserError(f"{where}: an answer's start is {value!r}: must be the number of a character of the context")


def _place(questions: list[Question], origin: str, misplaced: Literal["error", "drop"]) -> int:
    """Give misplaced answers the offset NOWHERE; how many there are."""
    lost, first = 0, ""
    for q in questions:
        for i, (text, start) in enumerate(q.answers):
            if start < 0 or not q.context.startswith(text, start):
                there = q.context[start : start + len(text)] if start >= 0 else ""
                first = first or f'"{text}" of question "{q.id}" at {start}, where the context has "{there}"'
                q.answers[i] = (text, NOWHERE)
                lost += 1
    if not lost:
        return 0
    report = f"{origin}: {lost} of {sum(len(q.answers) for q in questions)} answers are not at their offset, first {first}"
    if misplaced == "error":
        raise UserError(f"{report}; correct them, or leave them out with task.misplaced_answers drop")
    if distributed.is_main_process():
        print(f"{report}; they are not trained on", file=sys.stderr)
    return lost
