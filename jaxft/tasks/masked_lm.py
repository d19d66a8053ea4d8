"""Masked LM on running text, for domain adaptation and from scratch; masks are drawn on the device."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import losses
from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.ragged import places_in_rows
from jaxft.data.batching.collect import Summary
from jaxft.data.reading.empty_texts import EMPTY
from jaxft.data.reading.row_numbers import row_names
from jaxft.data.tokens import corpus
from jaxft.data.tokens.cache import Arrays, cached
from jaxft.data.tokens.corpus import DOCUMENT, Stream
from jaxft.data.tokens.encode import Examples
from jaxft.data.tokens.spans import frame_of
from jaxft.losses import OutputPair, WeightedSum, sum_by_text
from jaxft.tasks import texts
from jaxft.tasks.masking import Masking
from jaxft.tasks.task import Batch, Outputs, Split, Task


@dataclass(frozen=True)
class MaskedLM(Task):
    """Masked LM (Devlin et al. 2019, arXiv:1810.04805).

    Attributes:
      mask_rate: the share of the tokens to predict.
      n_best: the number of tokens that prediction gives for each mask.
      label_smoothing: an option of the training loss; evaluation has none.
      tokenizer: set by `with_tokenizer`.

    Class attributes:
      output: the name of the model's output with the logits of masked tokens, [R, P, vocabulary].
    """

    mask_rate: float = 0.15
    n_best: int = 20
    label_smoothing: float = 0.0
    tokenizer: Any = field(default=None, repr=False, compare=False)

    kind: ClassVar[str] = "fill-mask"
    metrics: ClassVar[Mapping[str, bool]] = {"perplexity": False, "loss": False, "accuracy": True}
    output: ClassVar[str] = "logits"
    masks_inputs: ClassVar[bool] = True

    @classmethod
    def learn(cls, config: Config, hf_config: Mapping[str, Any], rows: Any, origin: str) -> Self:
        """Nothing is learned from the data."""
        return cls.restore(config, hf_config)

    @classmethod
    def restore(cls, config: Config, hf_config: Mapping[str, Any]) -> Self:
        """All options are in the config."""
        return cls(config.task.mask_rate, config.task.n_best, config.train.label_smoothing)

    def with_tokenizer(self, tokenizer: Any, directory: Path) -> Self:
        """A copy of the task with the tokenizer, which must have a mask token."""
        if tokenizer.mask_token_id is None:
            raise UserError(f"{directory}: the tokenizer has no mask token, which {self.kind} needs")
        return replace(self, tokenizer=tokenizer)

    @classmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> Any:
        """The documents; for prediction, texts."""
        if not labelled:
            return texts.read(config.data, split)
        return corpus.read(config.data, split, line_documents=config.data.documents == "lines")

    @classmethod
    def text_columns(cls, config: Config) -> list[str]:
        """The text column; `data.text_pair` is for prediction only."""
        return [config.data.text]

    @classmethod
    def joins_rows(cls, config: Config) -> bool:
        """Whether all texts are joined into one stream."""
        return config.data.documents == "join"

    def encode(
        self, rows: Any, tokenizer: Any, directory: Path, config: Config, origin: str, *, labelled: bool = True
    ) -> Split:
        """Cut documents into examples without losing a token; for prediction, one example per text."""
        if not labelled:
            return self.with_masks(rows, directory, config, origin)
        data = config.data
        frame = frame_of(tokenizer, 1, data.max_length)

        def make() -> Arrays:
            stream = self.stream(rows, config, by_line=False)
            if not len(stream.ids):
                raise UserError(f"{origin}: the tokenizer gives no tokens for this text")
            return corpus.examples(stream, frame, data.max_length, join=data.documents == "join")

        settings = ["join"] if data.documents == "join" else ["lines", DOCUMENT]
        examples = self.cached_examples(make, rows, directory, config, *settings)
        columns = dict(examples.columns)
        notes = {DOCUMENT: columns.pop(DOCUMENT)} if DOCUMENT in columns else {}
        return Split(rows, replace(examples, columns=columns), origin, notes)

    def rows_of_examples(self, split: Split) -> np.ndarray:
        """The document of each example, if documents are not joined."""
        return np.asarray(split.notes[DOCUMENT], np.int64) if DOCUMENT in split.notes else super().rows_of_examples(split)

    @property
    def masking(self) -> Masking:
        """The masking for this tokenizer."""
        t = self.tokenizer
        return Masking(self.mask_rate, t.mask_token_id, len(t), tuple(t.all_special_ids))

    def stream(self, rows: Any, config: Config, *, by_line: bool) -> Stream:
        """Tokenise a corpus into one stream.

        Raises:
          UserError: if `task.whole_words` is set and the tokenizer does not know word boundaries.
        """
        if config.task.whole_words and not self.tokenizer.is_fast:
            raise UserError(
                f"task.whole_words: {type(self.tokenizer).__name__} does not know word boundaries (no tokenizer.json)"
            )
        return corpus.tokenise(rows, config.data.text, self.tokenizer, words=config.task.whole_words, by_line=by_line)

    def cached_examples(
        self, make: Callable[[], Arrays], rows: Any, directory: Path, config: Config, *settings: Any
    ) -> Examples:
        """The examples that `make` computes, or a cached copy that was computed with the same settings."""
        arrays = cached(
            make,
            rows=rows,
            directory=directory,
            tokenizer=self.tokenizer,
            settings=[self.kind, config.data.text, config.task.whole_words, config.data.max_length, *settings],
            use=config.data.cache,
        )
        tokens = {name: arrays[name] for name in ("input_ids", "token_type_ids", "words")}
        columns = {name: np.asarray(x) for name, x in arrays.items() if name not in (*tokens, "offsets")}
        return Examples(tokens, np.asarray(arrays["offsets"]), columns)

    def with_masks(self, rows: Any, directory: Path, config: Config, origin: str, *, needed: bool = True) -> Split:
        """Tokenise texts for prediction; column `masks` int32 [N, max masks] has the positions of mask tokens, -1 for none.

        Raises:
          UserError: if `needed` and a text has no mask token; the message names the row.
        """
        examples = texts.encode(rows, self.tokenizer, directory, config.data, origin)
        at = np.flatnonzero(examples.tokens["input_ids"] == self.tokenizer.mask_token_id)
        example = np.searchsorted(examples.offsets, at, side="right") - 1
        counts = np.bincount(example, minlength=len(examples))
        unmasked = counts == 0 if needed else np.zeros(len(examples), bool)
        if unmasked.any() and config.data.empty_texts != "null":
            raise UserError(
                f"{row_names(rows, origin)(int(np.argmin(counts)))} has no {self.tokenizer.mask_token} in its first "
                f"{config.data.max_length} tokens"
            )
        masks = np.full((len(examples), max(1, counts.max())), -1, np.int32)
        masks[example, places_in_rows(counts)] = at - examples.offsets[example]
        return Split(rows, examples.with_columns(masks=masks), origin, {EMPTY: unmasked})

    def prepare(self, batch: Batch, key: jax.Array | None) -> Batch:
        """Mask the batch in training and evaluation; in prediction find the mask tokens that it has.

        If the batch has weights of tokens, `token_weights` [K, R, T], masked ones keep theirs.
        """
        if key is not None:
            masked = self.masking(batch, key)
            if "token_weights" not in batch:
                return masked
            own = jnp.take_along_axis(batch["token_weights"], masked["token_positions"], axis=-1)
            return masked | {"token_weights": masked["token_weights"] * own}
        positions = batch["first_token"][..., None] + jnp.maximum(batch["masks"], 0)
        return batch | {"token_positions": positions.reshape(*positions.shape[:2], -1)}

    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> WeightedSum:
        """(cross-entropy summed over the masked tokens, their number)."""
        smoothing = self.label_smoothing if train else 0.0
        return losses.cross_entropy(outputs[self.output], batch["targets"], batch["token_weights"], smoothing)

    def soft_pairs(self, outputs: Outputs, teacher: Outputs, batch: Batch) -> list[OutputPair]:
        """The logits of masked tokens."""
        ours, theirs = outputs[self.output], teacher[self.output]
        return [OutputPair("softmax", ours, theirs, batch["token_weights"], batch["targets"], between=False)]

    def text_weights(self, batch: Batch) -> jax.Array:
        """The number of a text's masked tokens."""
        segments = jnp.take_along_axis(batch["segment_ids"], batch["token_positions"], axis=1)
        return sum_by_text(batch["token_weights"], segments, batch["first_token"].shape[1])

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The loss, number and correct predictions of masked tokens, summed."""
        used = (batch["token_weights"] > 0).astype(jnp.float32)
        loss, words = losses.cross_entropy(outputs[self.output], batch["targets"], used)
        hits = (jnp.argmax(outputs[self.output], axis=-1) == batch["targets"]) * used
        return Summary(sums={"mlm_loss": loss, "words": words, "mlm_hits": hits.sum()})

    def scores(self, summary: Summary, split: Split) -> dict[str, Any]:
        """Perplexity and accuracy on masked tokens."""
        loss, words, hits = (float(summary.sums[name]) for name in ("mlm_loss", "words", "mlm_hits"))
        if not words:
            return {"perplexity": None, "accuracy": None}
        return {"perplexity": float(np.exp(min(loss / words, 700.0))), "accuracy": hits / words}

    def predict(self, outputs: Outputs, batch: Batch) -> Summary:
        """The ids and probabilities [R, M, masks, n] of the best tokens for each mask."""
        logits = outputs[self.output].reshape(*batch["masks"].shape, -1)
        scores, ids = jax.lax.top_k(jax.nn.softmax(logits), min(self.n_best, logits.shape[-1]))
        return Summary(examples={"ids": ids, "scores": scores})

    def decode(self, summary: Summary, split: Split) -> Iterator[dict[str, Any]]:
        """The best tokens for each mask, with the field names of Hugging Face's pipeline."""
        found = summary.examples
        for masks, ids, scores in zip(split.examples.columns["masks"], found["ids"], found["scores"], strict=True):
            best = zip(ids[masks >= 0], scores[masks >= 0], strict=True)
            yield {"masks": [self._candidates(*tokens) for tokens in best]}

    def _candidates(self, ids: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
        return [
            {"token_str": self.tokenizer.decode([i]), "token": int(i), "score": round(float(p), 6)}
            for i, p in zip(ids, scores, strict=True)
        ]
