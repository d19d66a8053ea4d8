"""Reads questions about contexts, in any of three formats, as a table with the columns id, question, context, answers.

The formats are SQuAD's json (data, paragraphs, qas; versions 1 and 2), rows whose `answers` are {text, answer_start} as on
the hub, and rows with the text of one answer and the offset where it starts, as in csv files.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from jaxft.config import DataConfig
from jaxft.core import distributed
from jaxft.core.errors import UserError, nearest
from jaxft.data.cleaning.cleaner import Cleaned, Cleaner
from jaxft.data.formats.questions import NOWHERE, Question, own_columns, place_answers
from jaxft.data.reading import files
from jaxft.data.reading.columns import iter_rows
from jaxft.data.reading.empty_texts import PLACEHOLDER, with_placeholders
from jaxft.data.reading.json_rows import is_unicode, rows_of
from jaxft.data.reading.row_numbers import row_names
from jaxft.data.reading.sources import read_rows

_MORE = "more"  # key of a column that is read besides


def read_questions(config: DataConfig, split: str, *, labelled: bool, misplaced: Literal["error", "drop"]) -> Any:
    """Reads a split as a `datasets.Dataset` of id, question, context, and answers {text: [...], answer_start: [...]}.

    Texts are cleaned as `data.clean` says, and answers are carried along; then the rows also have the columns OWN_CONTEXT,
    OWN_ANSWERS and STAGES.

    Args:
      config, split: the files or hub data set; `config` also names the columns.
      labelled: whether to read answers. If so, rows with the same id are one question with several answers; otherwise every
        row is a question of its own, whatever its id.
      misplaced: what to do with answers that are not at their offset, or that cleaning would lose: `drop` gives them the
        offset NOWHERE, leaves out training questions that have no other answer, and prints how many there are.

    Raises:
      UserError: for data that cannot be read, one id for two questions, an empty text, a misplaced answer, or one that
        cleaning would lose.
    """
    import datasets

    origin, clean = files.origin(config, split), Cleaner(config.clean)
    by_id: dict[str | int, Question] = {}  # by id, or by row number if every row is a question of its own
    for number, (where, values) in enumerate(_records(config, split, labelled), 1):
        question = _question(values, where, number, config, clean)
        if question is None:
            continue
        first = by_id.setdefault(question.id if labelled and "id" in values else number, question)
        if first is question:
            continue
        same = (question.question, question.context) == (first.question, first.context)
        if not (question.single and first.single and same):
            file, _, row = first.where.rpartition(": ")
            where_first = row if question.where.startswith(f"{file}: ") else first.where
            raise UserError(f'{question.where}: the id "{question.id}" occurs twice (first in {where_first})')
        first.answers += question.answers
    questions = list(by_id.values())
    if not questions:
        raise UserError(f"{origin}: no questions")
    lost = _check_offsets(questions, origin, misplaced)
    places, unplaced = place_answers(questions, origin, misplaced)
    if (lost or unplaced) and split == "train":
        kept = [i for i, x in enumerate(places) if not x or any(start != NOWHERE for _, start in x)]
        if not kept:
            raise UserError(f"{origin}: no answer is at its offset")
        questions, places = [questions[i] for i in kept], [places[i] for i in kept]
    text, integer = datasets.Value("string"), datasets.Value("int32")
    features: dict[str, Any] = dict.fromkeys(("id", "question", "context"), text)
    columns: dict[str, Any] = {"id": [q.id for q in questions], "question": [q.cleaned_question for q in questions]}
    columns["context"] = [q.cleaned_context.text for q in questions]
    features["answers"] = {"text": datasets.List(text), "answer_start": datasets.List(integer)}
    columns["answers"] = [{"text": [t for t, _ in x], "answer_start": [s for _, s in x]} for x in places]
    if clean:
        own, kinds = own_columns(questions)
        columns, features = columns | own, features | kinds
    rows = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    return with_placeholders(rows, np.array([q.empty for q in questions]), {})


def question_column(
    config: DataConfig, split: str, ids: Iterable[str], column: str | None = None
) -> tuple[list[str], list[Any]]:
    """(the file, the value of a further column) for the first row of each question with one of these ids.

    Values are None where there are none.

    Raises:
      UserError: if no file has the column.
    """
    found: dict[str, tuple[str, Any]] = {}
    for number, (where, values) in enumerate(_records(config, split, False, column), 1):
        found.setdefault(str(values.get("id", number)), (where.rpartition(": ")[0], values.get(_MORE)))
    if column and not any(value is not None for _, value in found.values()):
        raise UserError(f'{files.origin(config, split)}: no column "{column}"')
    chosen = [found[key] for key in ids]
    return [file for file, _ in chosen], [value for _, value in chosen]


def _records(
    config: DataConfig, split: str, labelled: bool, more: str | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(location, {id, question, context, answers, answer_start}) of every row; keys that a row lacks are absent.

    The value of the further column `more` has the key _MORE.
    """
    origin = files.origin(config, split)
    names = {"id": config.id, "question": config.question, "context": config.context}
    names |= {_MORE: more} if more else {}
    answers = {"answers": config.answers, "answer_start": config.answer_start} if labelled else {}
    needed = [config.question, config.context, *([config.answers] if labelled else [])]
    rows: Iterable[tuple[str, str, dict[str, Any]]] | None = _documents(config, split)
    if rows is None:
        wanted = [config.id, *([config.answer_start] if labelled else []), *([more] if more else [])]
        table = read_rows(config, split, needed=needed, wanted=wanted, kinds={config.question: str, config.context: str})
        where = row_names(table, origin)
        rows = ((where(i), "", row) for i, row in enumerate(iter_rows(table)))
    for i, (where_row, where_article, row) in enumerate(rows):
        if "paragraphs" in row:
            yield from _article(row, where_article, labelled, more)
            continue
        for column in needed:
            if column not in row and not (config.empty_texts == "null" and i):
                raise UserError(f'{where_row} has no "{column}" ({", ".join(row)}){nearest(column, row)}')
        yield where_row, {name: row[column] for name, column in (names | answers).items() if column in row}


def _article(
    article: Mapping[str, Any], where: str, labelled: bool, more: str | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    for j, paragraph in enumerate(_list(article, "paragraphs", where)):
        at = f"{where}.paragraphs[{j}]"
        for k, row in enumerate(_list(paragraph, "qas", at)):
            values = {name: row[name] for name in ("id", "question") if name in row}
            if more in row:
                values[_MORE] = row[more]
            if labelled:
                values["answers"] = _list(row, "answers", f"{at}.qas[{k}]")
            yield f"{at}.qas[{k}]", values | ({"context": paragraph["context"]} if "context" in paragraph else {})


def _list(values: Mapping[str, Any], name: str, where: str) -> list[Any]:
    """The value `name`, which must be a list of mappings."""
    items = values.get(name)
    if not isinstance(items, list) or not all(isinstance(x, dict) for x in items):
        raise UserError(f'{where} has no list of "{name}" as SQuAD has it')
    return items


def _documents(config: DataConfig, split: str) -> list[tuple[str, str, Any]] | None:
    """The rows of json documents, or their articles in the SQuAD format; None for other files, and for one row per line.

    Each item is (its name in messages if it is a row, its name if it is an article, the row or article).
    """
    if config.dataset:
        return None
    named: list[tuple[str, str, Any]] = []
    for file in files.files_of(config, split):
        if file.is_dir() or files.file_format(file) != ".json":
            return None
        try:
            document = json.loads(files.content(file).decode("utf-8-sig"))
        except (ValueError, RecursionError):
            return None
        rows = rows_of(document, str(file), lists=False)
        if not all(isinstance(row, dict) for row in rows) or (rows == [document] and config.question not in document):
            raise UserError(f'{file}: not in the SQuAD format: must be {{"data": [...]}} or a list of rows')
        named += ((f"{file}: row {i + 1}", f"{file}: data[{i}]", row) for i, row in enumerate(rows))
    return named


def _question(values: Mapping[str, Any], where: str, number: int, config: DataConfig, clean: Cleaner) -> Question | None:
    """Checks and cleans a row and makes a question of it; None if a text is empty and the row is to be dropped."""
    texts, empty = {}, False
    cleaned: dict[str, Cleaned] = {}
    for name in ("question", "context"):
        column, text = getattr(config, name), values.get(name)
        if config.empty_texts == "null" and not (isinstance(text, str) and is_unicode(text)):
            text = None
        if not isinstance(text, str | None):
            raise UserError(f'{where} has {text!r} in "{column}": must be text')
        if text and not is_unicode(text):
            raise UserError(f'{where} has {repr(text)[:60]} in "{column}": must be text without lone surrogates')
        text = text or ""
        if name == "context" and config.no_answer:
            text = text.removesuffix(config.no_answer)
        cleaned[name] = clean(text)
        if not cleaned[name].text.strip():
            if config.empty_texts == "drop":
                return None
            if config.empty_texts == "error":
                after = " after data.clean" if text.strip() else ""
                raise UserError(
                    f'{where} has an empty {name} in "{column}"{after} (data.empty_texts drop leaves such rows out)'
                )
            empty, text, cleaned[name] = True, PLACEHOLDER, Cleaned(PLACEHOLDER)
        texts[name] = text
    key = values.get("id", number)
    if key is None or not str(key).strip():
        if config.empty_texts != "null":
            raise UserError(f'{where} has no id in "{config.id}"')
        key = number
    if not is_unicode(str(key)):
        raise UserError(f'{where} has {repr(key)[:60]} in "{config.id}": must be text without lone surrogates')
    answers, single = _answers(values, f'{where} (question "{key}")', config)
    return Question(
        str(key),
        **texts,
        where=where,
        cleaned_question=cleaned["question"].text,
        cleaned_context=cleaned["context"],
        answers=answers,
        single=single,
        empty=empty,
    )


def _answers(values: Mapping[str, Any], where: str, config: DataConfig) -> tuple[list[tuple[str, int]], bool]:
    """(answers, whether the row's format allows one answer only); empty answers are left out."""
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
    """The offset of a character, given as a number or as the text `12`, `12.0` or `(12, 20)`."""
    match = re.match(r"\s*[(\[]?\s*(-?\d{1,18})(?:\.0*)?(?![\w.])", value) if isinstance(value, str) else None
    if match:
        return int(match[1])
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    raise UserError(f"{where}: an answer's start is {value!r}: must be the number of a character of the context")


def _check_offsets(questions: list[Question], origin: str, misplaced: Literal["error", "drop"]) -> int:
    """Gives misplaced answers the offset NOWHERE and returns their number."""
    lost, first = 0, ""
    for q in questions:
        for i, (text, start) in enumerate(q.answers):
            if start < 0 or not q.context.startswith(text, start):
                actual = q.context[start : start + len(text)] if start >= 0 else ""
                first = first or f'"{text}" of question "{q.id}" at {start}, where the context has "{actual}"'
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
