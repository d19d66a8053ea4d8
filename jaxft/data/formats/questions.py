"""A question about a context, and the places of its answers after cleaning."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxft.core import distributed
from jaxft.core.errors import UserError
from jaxft.data.cleaning.cleaner import Cleaned

NOWHERE = -1  # the answer_start of an answer that is not at its offset
# Columns that rows have only if `data.clean` changes texts: the context and the texts of the answers as they are in the
# file, and what the cleaning steps changed in the context (`Edited.moves` of each step).
OWN_CONTEXT, OWN_ANSWERS, STAGES = "own context", "own answers", "edits"


@dataclass
class Question:
    """A question, its context, and its answers as (text, first character), as in the file; and both texts cleaned."""

    id: str
    question: str
    context: str
    where: str
    cleaned_question: str
    cleaned_context: Cleaned
    answers: list[tuple[str, int]] = field(default_factory=list)
    single: bool = True  # whether its row has one answer, so that rows with more answers may follow
    empty: bool = False  # whether it lacks a text, and only keeps its row's position (see `data.reading.empty_texts`)

    def places(self) -> list[tuple[str, int] | None]:
        """The answers in the cleaned context; None for one that cleaning removes or cuts."""
        cleaned, found = self.cleaned_context, []
        for text, start in self.answers:
            span = (0, 0) if start == NOWHERE else cleaned.span(start, start + len(text)) or (0, 0)
            there = cleaned.text[slice(*span)]
            found.append((text, NOWHERE) if start == NOWHERE else (there, span[0]) if there.strip() else None)
        return found


def place_answers(
    questions: Sequence[Question], origin: str, misplaced: Literal["error", "drop"]
) -> tuple[list[list[tuple[str, int]]], int]:
    """(for each question its answers in the cleaned context, the number of answers that cleaning loses).

    Raises:
      UserError: if an answer is lost, naming its row, unless `misplaced` is drop: then it gets the offset NOWHERE.
    """
    places, lost, first = [], 0, ""
    for q in questions:
        found = q.places()
        for (text, _), place in zip(q.answers, found, strict=True):
            if place is None:
                lost += 1
                first = first or f'"{text}" in {q.where} (question "{q.id}")'
        places.append([place or (text, NOWHERE) for (text, _), place in zip(q.answers, found, strict=True)])
    if not lost:
        return places, 0
    report = f"{origin}: data.clean removes or cuts {lost} answers, first {first}"
    if misplaced == "error":
        raise UserError(f"{report}; leave out the step that does, or these answers with task.misplaced_answers drop")
    if distributed.is_main_process():
        print(f"{report}; they are not trained on", file=sys.stderr)
    return places, lost


def own_columns(questions: Sequence[Question]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the columns OWN_CONTEXT, OWN_ANSWERS and STAGES, their features)."""
    import datasets

    text, numbers = datasets.Value("string"), datasets.List(datasets.Value("int32"))
    columns = {
        OWN_CONTEXT: [q.context for q in questions],
        OWN_ANSWERS: [[text for text, _ in q.answers] for q in questions],
        STAGES: [[stage.moves for stage in q.cleaned_context.stages] for q in questions],
    }
    return columns, {OWN_CONTEXT: text, OWN_ANSWERS: datasets.List(text), STAGES: datasets.List(numbers)}
