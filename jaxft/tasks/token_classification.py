"""Token classification: one tag per word (entities, chunks, parts of speech)."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import losses
from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.ragged import offsets_of
from jaxft.data.augmentation.fields import TaggedFields
from jaxft.data.batching.collect import Summary
from jaxft.data.formats.clean_sentences import sentence_tables
from jaxft.data.formats.sentences import (
    BEGINS,
    ENDS,
    OWN_BEGINS,
    OWN_ENDS,
    OWN_TEXT,
    OWN_WORDS,
    TAGS,
    TEXT,
    WORDS,
    location,
    split_mode,
)
from jaxft.data.formats.tagged import read_sentences
from jaxft.data.formats.tags import OUTSIDE, are_entities, are_iob2, canonical, find_violation, iob2_labels, spans, to_iob2
from jaxft.data.reading.columns import column_values
from jaxft.data.reading.row_numbers import RowName
from jaxft.data.tokens.words import encode_words
from jaxft.losses import OutputPair, sum_by_text
from jaxft.models.model import are_generic, as_stored_options, labels_of, stored_options
from jaxft.tasks.labels import choose_labels, class_weights, head_labels, label_column, of_first_rows
from jaxft.tasks.metrics.tagging import entity_scores, tag_scores
from jaxft.tasks.tag_labels import declared_tags, read_tags, scheme_of, tag_ids, unknown_tags
from jaxft.tasks.task import AugmentableRows, Batch, Mixes, Outputs, Split, Task, select_known_rows


@dataclass(frozen=True)
class TokenClassification(Task):
    """The task with its labels.

    Attributes:
      names: the label names, in the order of their ids; IOB2 unless the scheme is none or another program made the model.
      scheme: the tagging scheme of the files; none if the tags do not mark entities.
      label_pieces: whether the first or all pieces of a word are trained; the prediction of a word is that of its first.
      class_weights, label_smoothing: options of the training loss; evaluation has none.
      split_words: how texts are split into words, if the training data are texts.
    """

    names: tuple[str, ...]
    scheme: str = "auto"
    label_pieces: str = "first"
    class_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    split_words: str | None = None

    kind: ClassVar[str] = "token-classification"
    mixes: ClassVar[Mixes] = "tokens"
    tags_words: ClassVar[bool] = True
    metrics: ClassVar[Mapping[str, bool]] = {
        **dict.fromkeys(("f1", "precision", "recall", "accuracy", "macro_f1"), True),
        "loss": False,
    }

    @classmethod
    def learn(cls, config: Config, hf_config: Mapping[str, Any], rows: Any, origin: str) -> Self:
        """The labels are `task.labels`, or those of the training rows, completed to IOB2."""
        own = head_labels(hf_config, cls.kind)
        given = config.task.labels or []
        declared = [] if given else declared_tags(config.data)
        numbered = given or ([] if are_generic(own) else own)
        raw = read_tags(rows, numbered, "none", origin)
        scheme = scheme_of({*chain.from_iterable(raw), *given}, config.task.tag_scheme, origin)
        for name, tag in canonical(given).items() if scheme != "none" else ():
            if wrong := find_violation([tag], "auto"):
                raise UserError(f'task.labels has "{name}", {wrong[1]}')
        counts = Counter(chain.from_iterable(read_tags(rows, numbered, scheme, origin)))
        found: Collection[str] = counts
        if scheme != "none":
            found, given, declared = (iob2_labels(canonical(x).values()) if x else [] for x in (counts, given, declared))
        names = given or choose_labels(config, hf_config, cls.kind, declared, found, f"{origin}: tags")
        if len(names) < 2:
            raise UserError(f'{origin}: the only tag is "{names[0]}"; a tagger needs two{of_first_rows(config)}')
        weights = class_weights(config.task.class_weights, names, np.array([counts[name] for name in names]))
        how = config.data.split_words or split_mode(rows)
        task = cls(tuple(names), scheme, config.task.label_pieces, weights, config.train.label_smoothing, how)
        if config.eval.metric not in (None, "loss", *task._metrics):
            what = "are single (task.tag_scheme none)" if scheme == "none" else "mark entities"
            raise UserError(
                f"eval.metric is {config.eval.metric}, but the tags {what}: use {', '.join(task._metrics)} or loss"
            )
        return task

    @classmethod
    def restore(cls, config: Config, hf_config: Mapping[str, Any]) -> Self:
        """The labels are those of config.json, in any scheme."""
        names = tuple(labels_of(hf_config))
        own = stored_options(hf_config)
        single = own["tag_scheme"] == "none" if "tag_scheme" in own else not are_entities(names)
        scheme = "none" if single else config.task.tag_scheme
        how = config.data.split_words or own.get("split_words")
        return cls(names, scheme, own.get("label_pieces", config.task.label_pieces), split_words=how)

    @classmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> Any:
        """The sentences."""
        return read_sentences(config.data, split, label_column(config.data) if labelled else None)

    def drop_unknown_labels(self, rows: Any, config: Config, origin: str) -> tuple[Any, int]:
        """The sentences in which all tags are known."""
        unknown = unknown_tags(rows, config.task.labels or self.names, self.names, self.scheme, origin)
        return select_known_rows(rows, ~unknown, origin)

    @classmethod
    def text_columns(cls, config: Config) -> list[str]:
        """The column of words."""
        return [WORDS]

    @classmethod
    def row_labels(cls, rows: Any, config: Config, origin: str) -> list[tuple[str, ...]]:
        """The tags of each sentence as they are in the file, without those of words that cleaning emptied."""
        sentences = zip(column_values(rows, WORDS), column_values(rows, TAGS), strict=True)
        return [tuple(tag for word, tag in zip(*x, strict=True) if word) for x in sentences]

    @classmethod
    def row_names(cls, rows: Any, origin: str) -> RowName:
        """Sentences are named by the line or row of their first word."""
        return lambda row: ": ".join(location(rows, origin, row))

    @classmethod
    def file_rows(cls, rows: Any) -> np.ndarray | None:
        """Sentences are rows of a table unless it has one word per row."""
        numbers = list(column_values(rows, "row")) if "row" in rows.column_names else [[1, 2]]
        return np.array([x[0] for x in numbers]) if all(x[0] == x[-1] for x in numbers) else None

    @classmethod
    def file_tables(cls, rows: Any, config: Config) -> Iterator[Any]:
        """Texts with spans if they were split around punctuation, otherwise lists of words and of tags."""
        return sentence_tables(rows, config.data.text, label_column(config.data), config.data.split_words)

    def encode(
        self, rows: Any, tokenizer: Any, directory: Path, config: Config, origin: str, *, labelled: bool = True
    ) -> Split:
        """One example per window; per-token `labels` int32 [tokens] of the window's own words (id + 1; 0 is not trained)."""
        gold = tag_ids(rows, config.task.labels or self.names, self.names, self.scheme, origin) if labelled else None
        pieces = encode_words(rows, tokenizer, directory, config.data, origin)
        notes = {"first": pieces.first, "sizes": np.asarray(pieces.sizes), "windows": np.asarray(pieces.windows)}
        if gold is None:
            return Split(rows, pieces.examples, origin, notes | {"owners": pieces.owners})
        labels = self._piece_labels(gold, pieces.owners, pieces.first)
        return Split(rows, pieces.examples.with_tokens(labels=labels), origin, notes | {"gold": gold})

    def without_labels(self, split: Split) -> Split:
        """With `labels` that say which tokens a tagged sentence would train; their tags are not read."""
        owners = split.notes["owners"]
        labels = self._piece_labels(np.zeros(len(split.notes["first"]), np.int64), owners, split.notes["first"])
        return replace(split, examples=split.examples.with_tokens(labels=np.minimum(labels, 1)))

    def augmentable(self, rows: Any, config: Config, origin: str) -> AugmentableRows:
        """The sentences, with names in the place of numbered tags, and in IOB2 if tags mark entities."""
        tags = read_tags(rows, config.task.labels or self.names, self.scheme, origin)
        own = [x for x in (OWN_WORDS, OWN_TEXT, OWN_BEGINS, OWN_ENDS) if x in rows.column_names]
        rows = rows.remove_columns([TAGS, *own]).add_column(TAGS, tags)
        entities = self.scheme != "none"
        fields = TaggedFields(rows.column_names, entities=entities)
        task = replace(self, scheme="iob2") if entities else self
        return AugmentableRows(task, rows, fields, lambda: zip(column_values(rows, WORDS), tags, strict=True))

    def rows_of_examples(self, split: Split) -> np.ndarray:
        """The sentence of each window."""
        return np.repeat(np.arange(len(split.rows)), split.notes["windows"])

    def _piece_labels(self, gold: np.ndarray, owners: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Label id + 1 of each token [tokens], from the label id of each word [words]."""
        labels = np.zeros(len(owners), np.int32)
        if self.label_pieces == "all":
            ids = {name: i for i, name in enumerate(self.names)}
            entities = self.scheme != "none"
            inside = [ids.get(f"I{x[1:]}", i) if entities and x[0] == "B" else i for i, x in enumerate(self.names)]
            mine = owners >= 0
            labels[mine] = np.array(inside, np.int32)[gold[owners[mine]]] + 1
        known = first >= 0
        labels[first[known]] = gold[known] + 1
        return labels

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names."""
        return self.names

    @property
    def _metrics(self) -> tuple[str, ...]:
        return ("accuracy", "macro_f1") if self.scheme == "none" else ("f1", "precision", "recall", "accuracy")

    @property
    def metric(self) -> str:
        """Entity F1, or accuracy if the tags do not mark entities."""
        return self._metrics[0]

    @property
    def config_fields(self) -> Mapping[str, Any]:
        """What the label names alone do not tell."""
        own = {"tag_scheme": "none" if self.scheme == "none" else "iob2", "label_pieces": self.label_pieces}
        own |= {"split_words": self.split_words} if self.split_words else {}
        return as_stored_options(own)

    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> losses.WeightedSum:
        """(cross-entropy summed over the labelled tokens, their number or the sum of their class weights)."""
        real = _labelled(batch)
        weights = self.class_weights if train else None
        smoothing = self.label_smoothing if train else 0.0
        return losses.cross_entropy(outputs["logits"], batch["labels"] - 1, real, smoothing, weights)

    def soft_pairs(self, outputs: Outputs, teacher: Outputs, batch: Batch) -> list[OutputPair]:
        """The logits of the labelled tokens."""
        weights = self._token_weights(batch)
        return [OutputPair("softmax", outputs["logits"], teacher["logits"], weights, batch["labels"] - 1, between=False)]

    def text_weights(self, batch: Batch) -> jax.Array:
        """The number of a text's labelled tokens, or the sum of their class weights."""
        return sum_by_text(self._token_weights(batch), batch["segment_ids"], batch["first_token"].shape[1])

    def _token_weights(self, batch: Batch) -> jax.Array:
        weights = _labelled(batch)
        if self.class_weights is None:
            return weights
        return weights * jnp.take(jnp.asarray(self.class_weights, jnp.float32), batch["labels"] - 1, mode="clip")

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The most probable label of each token, int [R, T]."""
        small = jnp.int16 if len(self.names) <= jnp.iinfo(jnp.int16).max else jnp.int32
        return Summary(tokens={"predicted": jnp.argmax(outputs["logits"], -1).astype(small)})

    def predict(self, outputs: Outputs, batch: Batch) -> Summary:
        """The most probable label of each token and its probability, float32 [R, T]."""
        best = jax.nn.softmax(outputs["logits"], axis=-1).max(-1)
        return Summary(tokens=self.summarise(outputs, batch).tokens | {"score": best})

    def _of_words(self, values: np.ndarray, split: Split, missing: Any) -> np.ndarray:
        """From values [tokens] those of each word's first piece, [words]; `missing` for words without pieces."""
        first = split.notes["first"]
        return np.where(first >= 0, values[first], missing)

    def _predicted(self, summary: Summary, split: Split) -> np.ndarray:
        missing = self.names.index(OUTSIDE) if OUTSIDE in self.names else 0
        return self._of_words(summary.tokens["predicted"], split, missing)

    def _iob2_tags(self, ids: np.ndarray, split: Split) -> list[list[str]]:
        """The tags of each sentence in IOB2, whatever the scheme of the model's labels, from label ids [words]."""
        names = [self.names[i] for i in ids]
        sentences = [names[start:end] for start, end in pairwise(offsets_of(split.notes["sizes"]))]
        spelling = canonical(self.names)
        return sentences if are_iob2(self.names) else [to_iob2([spelling[tag] for tag in tags]) for tags in sentences]

    def scores(self, summary: Summary, split: Split) -> dict[str, Any]:
        """Entity scores and accuracy, or accuracy and macro F1 of single tags; every word counts once."""
        gold, predicted = split.notes["gold"], self._predicted(summary, split)
        if self.scheme == "none":
            return tag_scores(gold, predicted, self.names)
        scores = entity_scores(self._iob2_tags(gold, split), self._iob2_tags(predicted, split))
        return scores | {"accuracy": float((gold == predicted).mean())}  # with the model's own labels

    def gold(self, split: Split) -> list[list[str]]:
        """The tags of each sentence's words."""
        names = [self.names[i] for i in split.notes["gold"]]
        return [names[start:end] for start, end in pairwise(offsets_of(split.notes["sizes"]))]

    def predictions(self, summary: Summary, split: Split) -> tuple[list[list[str]], list[list[str]]]:
        """The predicted and the right tags of each sentence, in IOB2 unless `task.tag_scheme` is none."""
        gold, predicted = split.notes["gold"], self._predicted(summary, split)
        if self.scheme != "none":
            return self._iob2_tags(predicted, split), self._iob2_tags(gold, split)
        sizes = list(pairwise(offsets_of(split.notes["sizes"])))
        found, right = ([[self.names[i] for i in ids[start:end]] for start, end in sizes] for ids in (predicted, gold))
        return found, right

    def decode(self, summary: Summary, split: Split) -> Iterator[dict[str, Any]]:
        """`words`, their `tags`, and `entities` with type, start, end, text and score (mean probability of the tags).

        If the rows are texts, `text` is included and start and end are character offsets; otherwise they count words. Words,
        texts and offsets are those of the file.
        """
        ids = self._predicted(summary, split)
        scores = self._of_words(summary.tokens["score"], split, 0.0)
        tags = self._iob2_tags(ids, split) if self.scheme != "none" else None
        given, absent = split.rows.column_names, [None] * len(split.rows)
        own = OWN_WORDS in given
        names = (OWN_WORDS, OWN_TEXT, OWN_BEGINS, OWN_ENDS) if own else (WORDS, TEXT, BEGINS, ENDS)
        columns = [column_values(split.rows, x) if x in given else absent for x in names]
        begin = 0
        for i, (words, text, begins, ends) in enumerate(zip(*columns, strict=True)):
            own = slice(begin, begin + len(words))
            row: dict[str, Any] = {"text": text} if TEXT in given else {}
            row |= {"words": words, "tags": [self.names[x] for x in ids[own]]}
            if tags is not None:
                edges = None if text is None else list(zip(begins, ends, strict=True))
                row["entities"] = _entities(tags[i], scores[own], words, text, edges)
            begin += len(words)
            yield row


def _labelled(batch: Batch) -> jax.Array:
    """1 for each labelled token, or its weight in the batch; 0 for others, float32 [R, T]."""
    return (batch["labels"] > 0) * batch.get("token_weights", jnp.ones((), jnp.float32))


def _entities(
    tags: list[str], scores: np.ndarray, words: list[str], text: str | None, edges: list[tuple[int, int]] | None
) -> list[dict[str, Any]]:
    found = []
    for kind, first, past in spans(tags):
        start, end = (edges[first][0], edges[past - 1][1]) if edges else (first, past)
        shown = " ".join(words[first:past]) if text is None else text[start:end]
        score = round(float(scores[first:past].mean()), 6)
        found.append({"type": kind, "start": start, "end": end, "text": shown, "score": score})
    return found
