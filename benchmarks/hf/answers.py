"""Question answering as in Hugging Face's run_qa.py and utils_qa.py: windows with stride, the best spans of all windows."""

from collections import defaultdict
from typing import Any

import numpy as np
import transformers

from benchmarks.hf.settings import Peer, make_model
from jaxft.data.formats.squad import NOWHERE
from jaxft.run.setup import Run
from jaxft.tasks.metrics.squad import best_null_threshold, squad_scores

Window = dict[str, Any]


def make_peer(run: Run) -> Peer:
    """Windows of questions with their contexts, padded batch by batch."""
    task = run.config.task
    windows = {split: make_windows(run, split) for split in run.data}
    threshold = {"null": 0.0 if task.null_threshold == "tune" else task.null_threshold}

    def score(split: str, found: Any) -> dict[str, float]:
        rows = run.data[split].rows
        by_question: dict[int, list[tuple[Window, np.ndarray, np.ndarray]]] = defaultdict(list)
        for window, start, end in zip(windows[split], *found.predictions, strict=True):
            by_question[window["question"]].append((window, start, end))
        contexts, golds = list(rows["context"]), [answers["text"] for answers in rows["answers"]]
        best = [best_answer(by_question[i], contexts[i], task.n_best, task.max_answer_length) for i in range(len(rows))]
        texts, odds = [text for text, _ in best], np.array([odd for _, odd in best])
        if not task.unanswerable:
            return squad_scores(texts, golds, False)
        if task.null_threshold == "tune" and split == "validation":
            threshold["null"] = best_null_threshold(odds, texts, golds)
        given = ["" if odd > threshold["null"] else text for text, odd in best]
        return squad_scores(given, golds, True)

    def features(split: str) -> list[dict[str, Any]]:
        names = ("input_ids", "attention_mask", "token_type_ids", "start_positions", "end_positions")
        # Misplaced answers are not used in training.
        used = [w for w in windows[split] if split != "train" or w["start_positions"] != NOWHERE]
        return [{name: max(w[name], 0) if "pos" in name else w[name] for name in names if name in w} for w in used]

    return Peer(
        model=make_model(transformers.AutoModelForQuestionAnswering, run.config),
        data={split: features(split) for split in run.data},
        collator=transformers.DataCollatorWithPadding(run.tokenizer),
        score=score,
    )


def make_windows(run: Run, split: str) -> list[Window]:
    """The model's inputs, `question` (the number of the row), `offsets` (the characters of each token of the context; None
    for other tokens), start and end positions of each window."""
    rows, data = run.data[split].rows, run.config.data
    encoded = run.tokenizer(
        [question.lstrip() for question in rows["question"]],
        list(rows["context"]),
        truncation="only_second",
        max_length=data.max_length,
        stride=data.max_length // 4 if data.stride is None else data.stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    answers, found = list(rows["answers"]), []
    for i, question in enumerate(encoded["overflow_to_sample_mapping"]):
        kinds = encoded.sequence_ids(i)
        offsets = [pair if kind == 1 else None for pair, kind in zip(encoded["offset_mapping"][i], kinds, strict=True)]
        start, end = positions(answers[question], offsets)
        inputs = {name: encoded[name][i] for name in run.tokenizer.model_input_names}
        found.append(inputs | {"question": question, "offsets": offsets, "start_positions": start, "end_positions": end})
    return found


def positions(answers: dict[str, list[Any]], offsets: list[tuple[int, int] | None]) -> tuple[int, int]:
    """The first and the last token of the first answer; 0 if the window does not contain all of it."""
    placed = [pair for pair in zip(answers["answer_start"], answers["text"], strict=True) if pair[0] != NOWHERE]
    if not placed:
        return (NOWHERE, NOWHERE) if answers["text"] else (0, 0)
    start, text = placed[0]
    end = start + len(text)
    inside = [(token, pair) for token, pair in enumerate(offsets) if pair is not None]
    if not inside or inside[0][1][0] > start or inside[-1][1][1] < end:
        return 0, 0
    first = max(token for token, pair in inside if pair[0] <= start)
    return first, min(token for token, pair in inside if pair[1] >= end)


def best_answer(
    windows: list[tuple[Window, np.ndarray, np.ndarray]], context: str, n_best: int, longest: int
) -> tuple[str, float]:
    """The best answer that is not empty, and the score of no answer minus its score."""
    best, text, nothing = -np.inf, "", np.inf
    for window, start, end in windows:
        offsets = window["offsets"]
        nothing = min(nothing, float(start[0]) + float(end[0]))
        size = len(offsets)
        starts, ends = (np.argsort(-side[:size], kind="stable")[:n_best] for side in (start, end))
        for first in starts:
            for last in ends:
                if not first <= last < first + longest or offsets[first] is None or offsets[last] is None:
                    continue
                span = context[offsets[first][0] : offsets[last][1]]
                if float(start[first]) + float(end[last]) > best and span.strip():
                    best, text = float(start[first]) + float(end[last]), span
    return text, nothing - best if text else nothing
