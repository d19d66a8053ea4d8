"""The pipeline of token classification, with the results of transformers' `TokenClassificationPipeline`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from jaxft.core.errors import UserError
from jaxft.data.batching.collect import Summary
from jaxft.data.cleaning.cleaner import Cleaned
from jaxft.models.model import labels_of
from jaxft.pipelines.base import Encoded, Pipeline, check_choice, check_count, check_flags
from jaxft.pipelines.texts import examples_of
from jaxft.tasks.task import Batch, Outputs

STRATEGIES = ("none", "simple", "first", "average", "max")


@dataclass(frozen=True)
class Note:
    """What decoding needs of one text."""

    cleaned: Cleaned
    windows: Sequence[Any]  # a `tokenizers.Encoding` each
    begins: Sequence[int] | None  # where each word begins, if words were given


@dataclass(frozen=True)
class Piece:
    """A token, or the tokens of a word, with the probabilities of its labels [labels]."""

    word: str
    scores: np.ndarray
    start: int
    end: int
    index: int
    continues: bool  # the word of the piece before


class TokenClassificationPipeline(Pipeline):
    """Tags of the tokens of a text, or with `aggregation_strategy` its entities.

    Without it (none), a result is a list of {"entity", "score", "index", "word", "start", "end"}, one for each token whose
    label is not among `ignore_labels` (by default "O"). With simple, first, average or max it is a list of {"entity_group",
    "score", "word", "start", "end"}: neighbouring tokens of one entity, and with the last three whole words, whose label is
    that of the first token, of the mean of the probabilities, or of the most probable token. Offsets are those of the text
    as it was given. With `is_split_into_words`, an input is a list of words, joined by `delimiter` (a space).

    A text that is too long is truncated, or with `stride` divided into windows that share `stride` tokens (only with a
    strategy).
    """

    task = "token-classification"
    accepts = frozenset({"aggregation_strategy", "ignore_labels", "stride", "is_split_into_words", "delimiter"})

    def describes(self) -> str:
        """One input."""
        return "a text, or with is_split_into_words a list of words"

    def check_options(self, options: Mapping[str, Any]) -> None:
        """As in `Pipeline`."""
        check_choice(options, "aggregation_strategy", STRATEGIES)
        check_flags(options, "is_split_into_words")
        check_count(options, "stride", 0, none=True)
        ignored, delimiter = options.get("ignore_labels"), options.get("delimiter")
        if not isinstance(delimiter, str | None):
            raise UserError(f"delimiter is {delimiter!r:.100}: must be a text")
        if not (ignored is None or (isinstance(ignored, list | tuple) and all(isinstance(x, str) for x in ignored))):
            raise UserError(f"ignore_labels is {ignored!r:.100}: must be a list of labels")
        if options.get("stride") is not None:
            if (options.get("aggregation_strategy") or "none") == "none":
                raise UserError("stride needs an aggregation_strategy: simple, first, average or max")
            if options["stride"] >= self.encoder.max_length - 2:
                raise UserError(f"stride is {options['stride']}: must be from 0 to {self.encoder.max_length - 3}")

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """As in `Pipeline`."""
        merged = self.merged(options)
        if merged.get("is_split_into_words") and isinstance(inputs, list) and all(isinstance(x, str) for x in inputs):
            return self._one(inputs, merged)
        return super().__call__(inputs, **options)

    def encode(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Encoded:
        """One example per window."""
        split, delimiter = bool(options.get("is_split_into_words")), options.get("delimiter") or " "
        for value in inputs:
            right = isinstance(value, (list, tuple)) and all(isinstance(x, str) for x in value)
            if not (right if split else isinstance(value, str)):
                raise UserError(f"an input is {value!r:.100}: must be {self.describes()}")
        cleaned = [Cleaned(delimiter.join(x)) if split else self.encoder.clean(x) for x in inputs]
        given = [list(x) for x in inputs] if split else [x.text for x in cleaned]
        windows = self.encoder.windows(given, options.get("stride"), words=split)
        begins = [_begins(x, len(delimiter)) if split else None for x in given]
        notes = [Note(*note) for note in zip(cleaned, windows, begins, strict=True)]
        every = [window for own in windows for window in own]
        return Encoded(examples_of([x.ids for x in every], self.encoder.types(every)), notes)

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The logits [R, T, labels]."""
        return Summary(tokens={"logits": outputs["logits"]})

    def decode(self, summary: Summary, encoded: Encoded, options: Mapping[str, Any]) -> Iterator[Any]:
        """The tags or entities of each text."""
        strategy, ignored = options.get("aggregation_strategy") or "none", options.get("ignore_labels")
        ignored = ["O"] if ignored is None else ignored
        scores = softmax(summary.tokens["logits"].astype(np.float32), axis=-1)
        window = 0
        for note in encoded.notes:
            found: list[dict[str, Any]] = []
            for encoding in note.windows:
                low, high = encoded.examples.offsets[window : window + 2]
                pieces = self._pieces(encoding, note, scores[low:high])
                found += [x for x in self._entities(pieces, strategy) if _label(x) not in ignored]
                window += 1
            if len(note.windows) > 1:
                found = _without_overlaps(found)
            for entity in found:
                entity["start"], entity["end"] = note.cleaned.own_span(entity["start"], entity["end"])
            yield found

    def _pieces(self, encoding: Any, note: Note, scores: np.ndarray) -> list[Piece]:
        text, tokenizer = note.cleaned.text, self.model.tokenizer
        prefixed = getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None)
        pieces = []
        for i, token in enumerate(encoding.tokens):
            if encoding.special_tokens_mask[i]:
                continue
            word, (start, end) = encoding.word_ids[i], encoding.offsets[i]
            shift = note.begins[word] if note.begins is not None and word is not None else 0
            start, end = start + shift, end + shift
            covered = text[start:end]
            # Tokenizers without a prefix of continuing pieces do not mark them.
            continues = len(token) != len(covered) if prefixed else start > 0 and " " not in text[start - 1 : start + 1]
            if encoding.ids[i] == tokenizer.unk_token_id:
                pieces.append(Piece(covered, scores[i], start, end, i, continues=False))
            else:
                pieces.append(Piece(token, scores[i], start, end, i, continues))
        return pieces

    def _entities(self, pieces: Sequence[Piece], strategy: str) -> list[dict[str, Any]]:
        names = labels_of(self.model.model.hf_config)
        if strategy in ("none", "simple"):
            tagged = [_tagged(piece.word, piece.scores, names, piece.start, piece.end, piece.index) for piece in pieces]
            return tagged if strategy == "none" else self._groups(tagged)
        words: list[list[Piece]] = []
        for piece in pieces:
            if words and piece.continues:
                words[-1].append(piece)
            else:
                words.append([piece])
        to_text = self.model.tokenizer.convert_tokens_to_string
        return self._groups(
            [
                _tagged(to_text([x.word for x in own]), _MERGE[strategy](own), names, own[0].start, own[-1].end)
                for own in words
            ]
        )

    def _groups(self, tagged: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        groups: list[list[dict[str, Any]]] = []
        for one in tagged:
            kind, begins = _kind(one["entity"]), one["entity"].startswith("B-")
            if groups and not begins and kind == _kind(groups[-1][-1]["entity"]):
                groups[-1].append(one)
            else:
                groups.append([one])
        return [
            {
                "entity_group": own[0]["entity"].split("-", 1)[-1],
                "score": float(np.mean(np.array([x["score"] for x in own], np.float32))),
                "word": self.model.tokenizer.convert_tokens_to_string([x["word"] for x in own]),
                "start": own[0]["start"],
                "end": own[-1]["end"],
            }
            for own in groups
        ]


_MERGE: dict[str, Callable[[Sequence[Piece]], np.ndarray]] = {
    "first": lambda own: own[0].scores,
    "average": lambda own: np.mean([x.scores for x in own], axis=0),
    "max": lambda own: max(own, key=lambda x: x.scores.max()).scores,
}


def _tagged(
    word: str, scores: np.ndarray, names: Sequence[str], start: int, end: int, index: int | None = None
) -> dict[str, Any]:
    best = int(scores.argmax())
    found: dict[str, Any] = {"entity": names[best], "score": float(scores[best])}
    found |= {} if index is None else {"index": index}
    return found | {"word": word, "start": start, "end": end}


def _kind(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label


def _label(entity: Mapping[str, Any]) -> str:
    return entity.get("entity") or entity["entity_group"]


def _begins(words: Sequence[str], gap: int) -> list[int]:
    """Where each word begins in the text that they are joined to."""
    begins, at = [], 0
    for word in words:
        begins.append(at)
        at += len(word) + gap
    return begins


def _without_overlaps(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of entities of several windows that overlap, the longest, and of equally long ones the most probable."""
    kept: list[dict[str, Any]] = []
    for one in sorted(found, key=lambda x: x["start"]):
        if kept and kept[-1]["start"] <= one["start"] < kept[-1]["end"]:
            sizes = [x["end"] - x["start"] for x in (one, kept[-1])]
            if sizes[0] > sizes[1] or (sizes[0] == sizes[1] and one["score"] > kept[-1]["score"]):
                kept[-1] = one
        else:
            kept.append(one)
    return kept
