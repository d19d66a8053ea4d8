"""Pretraining: masked LM and a second task on pairs of segments, next sentence (BERT) or sentence order (ALBERT)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import losses
from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.data.batching.collect import Summary
from jaxft.data.tokens import corpus
from jaxft.data.tokens.cache import Arrays
from jaxft.data.tokens.segment_pairs import pairs
from jaxft.data.tokens.spans import frame_of
from jaxft.losses import OutputPair, WeightedSum
from jaxft.models import families
from jaxft.models.model import as_stored_options, stored_options
from jaxft.tasks import texts
from jaxft.tasks.masked_lm import MaskedLM
from jaxft.tasks.task import Batch, Outputs, Split

NAMES = {False: ("next", "random"), True: ("ordered", "swapped")}


@dataclass(frozen=True)
class Pretraining(MaskedLM):
    """Both tasks; the loss is the mean over masked tokens plus the mean over pairs.

    Attributes:
      sentence_order: whether the second task is sentence order (Lan et al. 2020, arXiv:1909.11942) or next sentence.
      relation: the name of the model's output with the logits of the second task, [R, M, 2].
    """

    sentence_order: bool = False
    relation: str = "seq_relationship_logits"

    kind: ClassVar[str] = "pretraining"
    metrics: ClassVar[Mapping[str, bool]] = {"loss": False, "perplexity": False, "accuracy": True, "pair_accuracy": True}
    output: ClassVar[str] = "prediction_logits"

    @classmethod
    def restore(cls, config: Config, hf_config: Mapping[str, Any]) -> Self:
        """The second task is given by `task.sentence_order`, else by config.json, else by the family."""
        family = families.family_of(hf_config, "config.json")
        outputs = list(family.heads.get(cls.kind, {}))
        if cls.output not in outputs:
            able = [name for name, x in families.FAMILIES.items() if cls.output in x.heads.get(cls.kind, {})]
            raise UserError(
                f"task pretraining is masked LM with a second task, for {' and '.join(able)}; an encoder of type "
                f"{hf_config['model_type']} needs task.name fill-mask"
            )
        relation = next(name for name in outputs if name != cls.output)
        order = config.task.sentence_order
        if order is None:
            order = stored_options(hf_config).get("sentence_order", relation == "sop_logits")
        return replace(super().restore(config, hf_config), sentence_order=order, relation=relation)

    @classmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> Any:
        """The documents; for prediction, texts or pairs of texts."""
        return corpus.read(config.data, split, by_line=True) if labelled else texts.read(config.data, split)

    @classmethod
    def joins_rows(cls, config: Config) -> bool:
        """Documents are not joined."""
        return False

    def encode(
        self, rows: Any, tokenizer: Any, directory: Path, config: Config, origin: str, *, labelled: bool = True
    ) -> Split:
        """One example per pair of segments; column `labels` int32 [N]."""
        if not labelled:
            return self.with_masks(rows, directory, config, origin, needed=not config.data.text_pair)
        length = config.data.max_length
        frame = frame_of(tokenizer, 2, length)

        def make() -> Arrays:
            stream = self.stream(rows, config, by_line=True)
            return pairs(stream, frame, length, order=self.sentence_order, seed=config.seed, origin=origin)

        return Split(rows, self.cached_examples(make, rows, directory, config, self.sentence_order, config.seed), origin)

    @property
    def config_fields(self) -> Mapping[str, Any]:
        """The second task."""
        return as_stored_options({"sentence_order": self.sentence_order})

    def prepare(self, batch: Batch, key: jax.Array | None) -> Batch:
        """Mask the batch and scale the weights of masked tokens so that their sum is the number of pairs in the step.

        Both losses then share one denominator and their sum is divided once, so micro-batches and devices stay exact.
        """
        batch = super().prepare(batch, key)
        if key is None:
            return batch
        share = batch["weights"].sum() / jnp.maximum(batch["token_weights"].sum(), 1.0)
        return batch | {"token_weights": batch["token_weights"] * share}

    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> WeightedSum:
        """(sum of both losses, number of pairs); see `prepare`."""
        smoothing = self.label_smoothing if train else 0.0
        words, _ = super().loss(outputs, batch, train)
        relation, weight = losses.cross_entropy(outputs[self.relation], batch["labels"], batch["weights"], smoothing)
        return words + relation, weight

    def soft_pairs(self, outputs: Outputs, teacher: Outputs, batch: Batch) -> list[OutputPair]:
        """The logits of masked tokens and of pairs."""
        ours, theirs = outputs[self.relation], teacher[self.relation]
        of_pairs = OutputPair("softmax", ours, theirs, batch["weights"], batch["labels"])
        return [*super().soft_pairs(outputs, teacher, batch), of_pairs]

    def text_weights(self, batch: Batch) -> jax.Array:
        """1 for each pair, as in the weight of `loss`."""
        return batch["weights"]

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The loss, number and correct predictions of masked tokens and of pairs, summed."""
        words = super().summarise(outputs, batch).sums
        loss, number = losses.cross_entropy(outputs[self.relation], batch["labels"], batch["weights"])
        hits = (jnp.argmax(outputs[self.relation], axis=-1) == batch["labels"]) * batch["weights"]
        return Summary(sums=words | {"pair_loss": loss, "pairs": number, "pair_hits": hits.sum()})

    def scores(self, summary: Summary, split: Split) -> dict[str, Any]:
        """Scores over the whole split; its loss is a mean over all tokens plus a mean over all pairs, not over steps."""
        scores, sums = super().scores(summary, split), summary.sums
        words = float(sums["words"])
        loss = float(sums["mlm_loss"] / words + sums["pair_loss"] / sums["pairs"]) if words else None
        return {"loss": loss, **scores, "pair_accuracy": float(sums["pair_hits"] / sums["pairs"])}

    def predict(self, outputs: Outputs, batch: Batch) -> Summary:
        """Tokens for the masks, and the probabilities [R, M, 2] of the second task."""
        tokens = super().predict(outputs, batch).examples
        return Summary(examples=tokens | {"relation": jax.nn.softmax(outputs[self.relation])})

    def decode(self, summary: Summary, split: Split) -> Iterator[dict[str, Any]]:
        """The best tokens for each mask; for pairs also the relation of the second text to the first."""
        names = NAMES[self.sentence_order]
        pairs = split.examples.tokens["token_type_ids"].any()
        for row, scores in zip(super().decode(summary, split), summary.examples["relation"], strict=True):
            best = int(np.argmax(scores))
            yield row | {"label": names[best], "score": round(float(scores[best]), 6)} if pairs else row
