"""The outputs that made a mistake: which logits of a wrong prediction are too high, and which too low.

A function per kind of head encodes rows of `labelled_predictions` and weighs the outputs of the model: 1 for what was
predicted wrongly, -1 for what is right and was not predicted. The weighted sum grows as the mistake does.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.cleaning.cleaner import Cleaned, Cleaner
from jaxft.data.cleaning.edits import Span
from jaxft.data.formats.prediction_rows import column, fields
from jaxft.data.formats.sentences import without_space
from jaxft.data.tokens.words import owned_words, word_tokenizer

_WORD = re.compile(r"\S+\s*|\s+")
TokensOfWord = tuple[str, list[int]]  # a word with the white space after it, and its tokens in an encoding
Row = Mapping[str, Any]


@dataclass(frozen=True)
class MistakeWeights:
    """Encoded rows and the weights of their outputs.

    Attributes:
      encodings: a `tokenizers.Encoding` per example, B of them; a row may have several examples.
      weights: by the name of an output of the model; float32 [B, 1, L] for examples, [B, 1] for choices, [B, T, L] or
        [B, T] for tokens.
      texts: for each row its texts, each as (the example, its words).
    """

    encodings: Sequence[Any]
    weights: Mapping[str, np.ndarray]
    texts: Sequence[Sequence[tuple[int, Sequence[TokensOfWord]]]]


def of_labels(rows: Sequence[Row], names: Sequence[str], tokenizer: Any, data: DataConfig) -> MistakeWeights:
    """One label per text, several, or numbers.

    A number that is too high has the weight 1, one that is too low -1.
    """
    columns = [x for x in (data.text, data.text_pair) if x is not None]
    clean = _cleaner(data)
    texts = [[clean(_text(row, x)).text for x in columns] for row in rows]
    index, weights = {name: i for i, name in enumerate(names)}, np.zeros((len(rows), 1, len(names)), np.float32)
    for i, row in enumerate(rows):
        gold, predicted = row["gold"], row["prediction"]
        if isinstance(gold, Mapping):
            weights[i, 0] = [np.sign(predicted[name] - right) for name, right in gold.items()]
            continue
        right, given = ({*x} if isinstance(x, list) else {x} for x in (gold, predicted))
        for names_of, weight in ((given - right, 1), (right - given, -1)):
            for name in names_of:
                weights[i, 0, _known(index, name)] = weight
    encodings = _encode(tokenizer, data, *zip(*texts, strict=True))
    shown = [[(i, _words(x, side, encodings[i])) for side, x in enumerate(own)] for i, own in enumerate(texts)]
    return MistakeWeights(encodings, {"logits": weights}, shown)


def of_tags(rows: Sequence[Row], names: Sequence[str], tokenizer: Any, data: DataConfig) -> MistakeWeights:
    """The tags of words: those of the first token of every word with a wrong tag, in the window that decides its tag.

    Words are tokenised as for the model: with a space before them if the tokenizer's words have one, in windows.
    """
    clean, stride = _cleaner(data), data.window_stride
    backend, space = word_tokenizer(tokenizer, data.max_length, stride)
    step = data.max_length - backend.num_special_tokens_to_add(False) - stride
    index, encodings, wrong, texts = {name: i for i, name in enumerate(names)}, [], [], []
    for row in rows:
        words = [clean(x).text for x in row["words"]]
        spaces = _spaces(row) if space else [""] * len(words)
        whole = backend.encode(
            [f"{before}{x}" if x else x for before, x in zip(spaces, words, strict=True)], is_pretokenized=True
        )
        windows = [whole, *whole.overflowing]
        owners = owned_words([np.array([-1 if x is None else x for x in window.word_ids]) for window in windows], step)
        shown: list[tuple[int, list[TokensOfWord]]] = []
        begin = 0
        for i, (window, own) in enumerate(zip(windows, owners, strict=True)):
            end = len(words) if i == len(windows) - 1 else int(own.max(initial=begin - 1)) + 1
            tokens = [np.flatnonzero(own == word).tolist() for word in range(begin, end)]
            shown.append((len(encodings), [(f"{x} ", at) for x, at in zip(row["words"][begin:end], tokens, strict=True)]))
            for word, at in zip(range(begin, end), tokens, strict=True):
                gold, predicted = row["gold"][word], row["prediction"][word]
                if at and gold != predicted:
                    wrong += [(len(encodings), at[0], _known(index, predicted), 1)]
                    wrong += [(len(encodings), at[0], _known(index, gold), -1)]
            encodings.append(window)
            begin = end
        texts.append(shown)
    weights = np.zeros((len(encodings), max(len(x.ids) for x in encodings), len(names)), np.float32)
    for example, token, label, weight in wrong:
        weights[example, token, label] = weight
    return MistakeWeights(encodings, {"logits": weights}, texts)


def _spaces(row: Row) -> list[str]:
    """What stands before each word of a sentence: nothing where its text has no space there."""
    words, text = row["words"], row["text"] if "text" in fields(row) else None
    if not text:
        return [" "] * len(words)
    begins, end = [], 0
    for word in words:
        begins.append(text.index(word, end))
        end = begins[-1] + len(word)
    ends = [begin + len(word) for begin, word in zip(begins, words, strict=True)]
    return ["" if unspaced else " " for unspaced in without_space(begins, ends)]


def of_answers(rows: Sequence[Row], _: Sequence[str], tokenizer: Any, data: DataConfig) -> MistakeWeights:
    """The first and last tokens of answers, in the window of the context that holds the predicted one.

    No answer is the first token of the window. The gold answer is the first one, where the context first has it; if another
    window has it, only the predicted one counts.
    """
    clean, stride = _cleaner(data), data.window_stride
    options = {"truncation": "only_second", "max_length": data.max_length, "stride": stride}
    encodings, spans, texts = [], [], []
    for i, row in enumerate(rows):
        question, context = (_text(row, x) for x in (data.question, data.context))
        asked, cleaned = clean(question).text, clean(context)
        windows = tokenizer(asked, cleaned.text, **options, return_overflowing_tokens=True).encodings
        gold = next(iter(row["gold"]), "")
        predicted = _span(cleaned, row["prediction"], row["start"])
        right = _span(cleaned, gold, context.find(gold))
        places = [(_first_and_last(x, predicted), _first_and_last(x, right)) for x in windows]
        best = max(range(len(windows)), key=lambda x: [place is not None for place in places[x]])
        encodings.append(windows[best])
        spans.append(places[best])
        texts.append([(i, _words(asked, 0, windows[best])), (i, _without_edges(_words(cleaned.text, 1, windows[best])))])
    weights = {x: np.zeros((len(rows), max(len(x.ids) for x in encodings)), np.float32) for x in ("start", "end")}
    for i, of_row in enumerate(spans):
        for place, weight in zip(of_row, (1, -1), strict=True):
            for array, token in zip(weights.values(), place or (), strict=False):
                array[i, token] += weight
    return MistakeWeights(encodings, {f"{side}_logits": x for side, x in weights.items()}, texts)


def of_choices(rows: Sequence[Row], _: Sequence[str], tokenizer: Any, data: DataConfig) -> MistakeWeights:
    """The logits of the predicted and of the right choice, in this order, with the texts of both."""
    clean, columns = _cleaner(data), data.choices or []
    pairs = []
    for row in rows:
        start = _text(row, data.text_pair) if data.text_pair else ""
        choices = column(row, columns[0]) if len(columns) == 1 else [_text(row, x) for x in columns]
        for side in ("prediction", "gold"):
            pairs.append([clean(x).text for x in (_text(row, data.text), f"{start} {choices[row[side]]}".strip())])
    encodings = _encode(tokenizer, data, *zip(*pairs, strict=True))
    shown = [[(i, _words(text, side, encodings[i])) for side, text in enumerate(pair)] for i, pair in enumerate(pairs)]
    weights = np.array([1, -1] * len(rows), np.float32)[:, None]
    return MistakeWeights(encodings, {"logits": weights}, [[*shown[i], *shown[i + 1]] for i in range(0, len(shown), 2)])


BY_KIND: Mapping[str, Callable[[Sequence[Row], Sequence[str], Any, DataConfig], MistakeWeights]] = {
    "text-classification": of_labels,
    "token-classification": of_tags,
    "question-answering": of_answers,
    "multiple-choice": of_choices,
}


def _known(index: Mapping[str, int], name: str) -> int:
    if name not in index:
        raise UserError(f"the predictions have the label {name}, which the model does not have: evaluate the model again")
    return index[name]


def _text(row: Row, name: str) -> str:
    value = column(row, name)
    return "" if value is None else str(value)


def _cleaner(data: DataConfig) -> Callable[[str], Cleaned]:
    return Cleaner(data.clean) if data.clean.edits else Cleaned


def _encode(tokenizer: Any, data: DataConfig, *texts: Sequence[str]) -> list[Any]:
    return tokenizer(*map(list, texts), truncation=True, max_length=data.max_length).encodings


def _words(text: str, side: int, encoding: Any) -> list[TokensOfWord]:
    """The words of the first (0) or second (1) text of an encoding."""
    words = list(_WORD.finditer(text))
    ends = [word.end() for word in words]
    tokens: list[list[int]] = [[] for _ in words]
    for token, ((start, end), sequence) in enumerate(zip(encoding.offsets, encoding.sequence_ids, strict=True)):
        if sequence == side and end > start:
            first = start + len(text[start:end]) - len(text[start:end].lstrip())  # some tokens begin with a space
            tokens[int(np.searchsorted(ends, min(first, end - 1), side="right"))].append(token)
    return [(word[0], own) for word, own in zip(words, tokens, strict=True)]


def _without_edges(words: Sequence[TokensOfWord]) -> Sequence[TokensOfWord]:
    """Words without those before the first and after the last one that has tokens: those of other windows."""
    found = [i for i, (_, tokens) in enumerate(words) if tokens]
    return words[found[0] : found[-1] + 1] if found else words


def _span(cleaned: Cleaned, text: str | None, start: int | None) -> Span | None:
    """The characters of an answer in the cleaned context; (0, 0) is no answer, and None one that is not found."""
    if not text:
        return 0, 0
    return None if start is None or start < 0 else cleaned.span(start, start + len(text))


def _first_and_last(encoding: Any, span: Span | None) -> tuple[int, int] | None:
    """The first and the last token of characters of the context, None if they are not in this window."""
    if span is None:
        return None
    if span == (0, 0):
        return 0, 0
    pieces = zip(encoding.offsets, encoding.sequence_ids, strict=True)
    own = [i for i, ((low, high), side) in enumerate(pieces) if side == 1 and low < span[1] and high > span[0]]
    whole = own and encoding.offsets[own[0]][0] <= span[0] and encoding.offsets[own[-1]][1] >= span[1]
    return (own[0], own[-1]) if whole else None
