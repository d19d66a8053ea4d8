"""The pipeline of multiple choice; transformers has none."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import softmax

from jaxft.core.errors import UserError
from jaxft.core.ragged import offsets_of
from jaxft.data.batching.collect import Summary
from jaxft.pipelines.base import Encoded, Pipeline
from jaxft.tasks.task import Batch, Outputs


class MultipleChoicePipeline(Pipeline):
    """The most probable of some choices that continue or answer a text: {"text": ..., "choices": [...]}.

    A result is {"choice": its number, "label": its text, "score", "scores": of all choices, in order}. The number of choices
    may differ between inputs.
    """

    task = "multiple-choice"

    def describes(self) -> str:
        """One input."""
        return '{"text": ..., "choices": [two or more texts]}'

    def probe(self) -> Sequence[Any]:
        """An input with two choices."""
        return [{"text": "a", "choices": ["b", "c"]}]

    def encode(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Encoded:
        """One example per choice; the notes are the choices."""
        pairs, notes = [], []
        for value in inputs:
            own = value if isinstance(value, Mapping) and set(value) == {"text", "choices"} else {}
            text, choices = own.get("text"), own.get("choices")
            texts = [text, *choices] if isinstance(choices, (list, tuple)) else []
            if len(texts) < 3 or not all(isinstance(x, str) for x in texts):
                raise UserError(f"an input is {value!r:.100}: must be {self.describes()}")
            text, *choices = [self.encoder.clean(x).text for x in texts]
            pairs += [(text, choice) for choice in choices]
            notes.append(texts[1:])
        return Encoded(self.encoder(pairs), notes)

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The logit of each choice [R, M]."""
        return Summary(examples={"logits": outputs["logits"].reshape(batch["weights"].shape)})

    def decode(self, summary: Summary, encoded: Encoded, options: Mapping[str, Any]) -> Iterator[Any]:
        """The choice of each input."""
        offsets = offsets_of([len(choices) for choices in encoded.notes])
        for choices, (low, high) in zip(encoded.notes, pairwise(offsets), strict=True):
            scores = softmax(summary.examples["logits"][low:high].astype(np.float32))
            best = int(scores.argmax())
            yield {"choice": best, "label": choices[best], "score": float(scores[best]), "scores": scores.tolist()}
