"""The pipeline of embeddings, with the results of transformers' `FeatureExtractionPipeline` and vectors of whole texts."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from jaxft.core.errors import UserError
from jaxft.data.batching.collect import Summary
from jaxft.pipelines.base import Encoded, Pipeline, check_choice, check_flags
from jaxft.tasks.task import Batch, Outputs

POOLINGS = ("mean", "cls", "pooled")


class FeatureExtractionPipeline(Pipeline):
    """The last hidden states of the tokens of a text, or one vector for the text.

    A result is a nested list [1, T, D], or with `pooling` a list of D numbers: mean is the mean over all tokens (as in
    sentence-transformers), cls the first token, pooled the output of the model's pooler. With `return_tensors` results are
    numpy float32 arrays of these shapes.
    """

    task = "feature-extraction"
    accepts = frozenset({"pooling", "return_tensors"})

    def describes(self) -> str:
        """One input."""
        return "a text"

    def check_options(self, options: Mapping[str, Any]) -> None:
        """As in `Pipeline`."""
        check_choice(options, "pooling", POOLINGS)
        check_flags(options, "return_tensors")

    def encode(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Encoded:
        """One example per text."""
        return Encoded(self.encoder(self.texts(inputs)))

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The hidden states [R, T, D], and the pooler's output [R, M, D] if the model has one."""
        pooled = {"pooled": outputs["pooler_output"]} if "pooler_output" in outputs else {}
        return Summary(tokens={"hidden": outputs["last_hidden_state"]}, examples=pooled)

    def decode(self, summary: Summary, encoded: Encoded, options: Mapping[str, Any]) -> Iterator[Any]:
        """The vectors of each text."""
        pooling = options.get("pooling")
        if pooling == "pooled" and not self._has_pooler(summary):
            raise UserError(f"{self.model.directory}: has no pooler, which pooling pooled needs; use mean or cls")
        hidden, offsets = summary.tokens["hidden"].astype(np.float32), encoded.examples.offsets
        for i, (low, high) in enumerate(pairwise(offsets)):
            if pooling == "mean":
                found = hidden[low:high].mean(axis=0)
            elif pooling == "cls":
                found = hidden[low]
            elif pooling == "pooled":
                found = summary.examples["pooled"][i].astype(np.float32)
            else:
                found = hidden[None, low:high]
            yield found if options.get("return_tensors") else found.tolist()

    def _has_pooler(self, summary: Summary) -> bool:
        report = self.model.model.report
        fresh = report is not None and any(name.startswith("encoder.pooler.") for name in report.new)
        return "pooled" in summary.examples and not fresh
