"""Tokenises questions and contexts into windows with the position of the answer, as Hugging Face's run_qa.py does."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.core.progress import in_steps
from jaxft.core.ragged import offsets_of
from jaxft.data.formats.questions import NOWHERE
from jaxft.data.formats.split_text import is_mark
from jaxft.data.reading.columns import CHUNK
from jaxft.data.reading.empty_texts import EMPTY, PLACEHOLDER
from jaxft.data.tokens.cache import Arrays, cached
from jaxft.data.tokens.encode import Examples, token_ids
from jaxft.data.tokens.tokenizer import has_token_types

NOTES = ("question", "begin", "end", EMPTY)
COLUMNS = ("context", "start_positions", "end_positions")


def encode_questions(
    rows: Any, tokenizer: Any, directory: Path, config: DataConfig, origin: str, *, labelled: bool
) -> tuple[Examples, Mapping[str, np.ndarray]]:
    """Tokenises questions with their contexts; a context that is too long is divided into several windows.

    Args:
      rows: from `read_questions`.
      config: its `max_length` limits a window, with the question and special tokens; neighbouring windows share `stride`
        tokens of the context, by default a quarter of it. If `empty_texts` is null, a question so long that its context does
        not fit counts as an empty row (see `data.reading.empty_texts`), otherwise it is an error.
      labelled: whether to find the positions of the answers.
      tokenizer, directory, origin: as in `encode_texts`.

    Returns:
      Windows in the order of their questions, and notes. Per-window columns: `context` int32 [N, 2], the first context
      token and the one after the last, counted from the window's first token; if labelled, `start_positions` and
      `end_positions` int32 [N], the first and last token of the question's first answer: 0 (the first token, [CLS]) for a
      window that does not contain all of it, NOWHERE for a question whose answers are all misplaced.
      Notes: `question` int64 [N], the row of each window; `begin` and `end` int32 [total], for each context token the
      first of its characters in the context and one past the last; EMPTY bool [rows].

    Raises:
      UserError: for a question so long that its context does not fit, or a tokenizer without character offsets.
    """
    if not tokenizer.is_fast:
        raise UserError(f"{directory}: the tokenizer does not say which characters its tokens are; save a tokenizer.json")
    stride = config.window_stride
    invalid_is_null = config.empty_texts == "null"
    make = partial(_tokenise, rows, tokenizer, config.max_length, stride, labelled, origin, invalid_is_null)
    settings = ["questions", config.max_length, stride, labelled, invalid_is_null]
    arrays = cached(make, rows=rows, directory=directory, tokenizer=tokenizer, settings=settings, use=config.cache)
    columns = {name: arrays[name] for name in COLUMNS if name in arrays}
    return Examples(token_ids(arrays), np.asarray(arrays["offsets"]), columns), {name: arrays[name] for name in NOTES}


def _tokenise(
    rows: Any, tokenizer: Any, max_length: int, stride: int, labelled: bool, origin: str, invalid_is_null: bool
) -> Arrays:
    typed = np.int8(has_token_types(tokenizer))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("input_ids", "token_type_ids", "begin", "end")}
    lengths, question, context, positions = [], [], [], []
    is_empty = np.zeros(len(rows), bool)
    for first in in_steps(f"tokenising {origin}", len(rows), CHUNK):
        chunk = rows[first : first + CHUNK]
        questions = [text.lstrip() for text in chunk["question"]]  # as in run_qa.py: leading spaces may be many tokens
        for i, why in _too_long(questions, chunk, tokenizer, max_length, stride):
            if not invalid_is_null:
                raise UserError(f"{origin}: {why}")
            is_empty[first + i], questions[i] = True, PLACEHOLDER
        encoded = tokenizer(
            questions,
            chunk["context"],
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_token_type_ids=True,
            return_attention_mask=False,
        )
        for i, row in enumerate(encoded["overflow_to_sample_mapping"]):
            context_tokens = np.flatnonzero([part == 1 for part in encoded.sequence_ids(i)])
            low, high = (int(context_tokens[0]), int(context_tokens[-1]) + 1) if len(context_tokens) else (1, 1)
            characters = np.asarray(encoded["offset_mapping"][i], np.int32)
            characters[:low] = characters[high:] = 0
            parts["input_ids"].append(np.asarray(encoded["input_ids"][i], np.int32))
            parts["token_type_ids"].append(np.asarray(encoded["token_type_ids"][i], np.int8) * typed)
            parts["begin"].append(characters[:, 0])
            parts["end"].append(characters[:, 1])
            lengths.append(len(characters))
            question.append(first + row)
            context.append((low, high))
            if labelled:
                positions.append(_positions(chunk["answers"][row], characters[low:high], low))
    arrays = {name: np.concatenate(pieces) for name, pieces in parts.items()}
    arrays |= {"offsets": offsets_of(lengths), "question": np.asarray(question), EMPTY: is_empty}
    arrays["context"] = np.asarray(context, np.int32)
    if labelled:
        arrays["start_positions"], arrays["end_positions"] = np.asarray(positions, np.int32).T
    return arrays


def _positions(answers: Mapping[str, Sequence[Any]], characters: np.ndarray, low: int) -> tuple[int, int]:
    """The first and the last token of the first answer that is at its offset, in a window whose context begins at token
    `low`; `characters`, int [context tokens, 2], holds the first character of each token and one past the last."""
    if not answers["text"]:
        return 0, 0
    placed = (pair for pair in zip(answers["answer_start"], answers["text"], strict=True) if pair[0] != NOWHERE)
    start, text = next(placed, (NOWHERE, ""))
    if start == NOWHERE:
        return NOWHERE, NOWHERE
    start, end = start + len(text) - len(text.lstrip()), start + len(text.rstrip())
    # If the tokenizer drops accents, those at the answer's end belong to no token.
    accents = len(list(itertools.takewhile(is_mark, reversed(text.rstrip()))))
    if not len(characters) or characters[0, 0] > start or characters[-1, 1] < end - accents:
        return 0, 0
    # The tokens that share a character with the answer; a character may belong to several tokens, or to none.
    first = int(np.searchsorted(characters[:, 1], start, "right"))
    last = int(np.searchsorted(characters[:, 0], end, "left")) - 1
    return (low + first, low + last) if first <= last else (0, 0)


def _too_long(
    questions: list[str], chunk: Mapping[str, Any], tokenizer: Any, max_length: int, stride: int
) -> Iterator[tuple[int, str]]:
    """(index, reason) of the questions so long that the windows of their contexts could not advance (the tokenizers library
    would panic)."""
    plain = {"add_special_tokens": False, "return_attention_mask": False}
    max_tokens = max_length - tokenizer.num_special_tokens_to_add(pair=True)
    if stride >= max_tokens:
        raise UserError(
            f"data.stride is {stride}: question and context share {max_tokens} tokens of data.max_length {max_length}"
        )
    for i, ids in enumerate(tokenizer(questions, **plain)["input_ids"]):
        left = max_tokens - len(ids)
        if left <= stride and len(tokenizer(chunk["context"][i], **plain)["input_ids"]) > left:
            reason = (
                f'question "{chunk["id"][i]}" has {len(ids)} tokens and leaves its context {max(left, 0)} of '
                f"data.max_length {max_length}, but windows share data.stride {stride}; raise the one or lower the other"
            )
            yield i, reason
