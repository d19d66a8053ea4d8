"""Fill-mask: masked LM on running text, for domain adaptation and from scratch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.data.tokens import corpus
from jaxft.data.tokens.cache import Arrays
from jaxft.data.tokens.spans import frame_of
from jaxft.losses import WeightedSum
from jaxft.tasks import texts
from jaxft.tasks.masked_lm import MaskedLM
from jaxft.tasks.task import Batch, Outputs, Split


@dataclass(frozen=True)
class FillMask(MaskedLM):
    """Masked LM alone."""

    kind: ClassVar[str] = "fill-mask"
    metrics: ClassVar[Mapping[str, bool]] = {"perplexity": False, "loss": False, "accuracy": True}
    output: ClassVar[str] = "logits"

    @classmethod
    def read(cls, config: Config, split: str, *, labelled: bool = True) -> Any:
        """The documents; for prediction, texts."""
        return (
            corpus.read(config.data, split, line_documents=config.data.documents == "lines")
            if labelled
            else texts.read(config.data, split)
        )

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

        return Split(rows, self.cached_examples(make, rows, directory, config, data.documents), origin)

    def loss(self, outputs: Outputs, batch: Batch, train: bool) -> WeightedSum:
        """(cross-entropy summed over the masked tokens, their number)."""
        return self.mlm_loss(outputs, batch, train)

    def soft_loss(self, outputs: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> WeightedSum:
        """Cross-entropy against the teacher's softmax at masked tokens."""
        return self.soft_mlm_loss(outputs, teacher, batch, temperature)
