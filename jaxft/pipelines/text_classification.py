"""The pipeline of text classification, with the results of transformers' `TextClassificationPipeline`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from jaxft.core.errors import UserError
from jaxft.data.batching.collect import Summary
from jaxft.models.model import labels_of
from jaxft.pipelines.base import Encoded, Pipeline, check_choice, check_count
from jaxft.pipelines.texts import Text
from jaxft.tasks.task import Batch, Outputs

FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "softmax": lambda x: softmax(x, axis=-1),
    "sigmoid": expit,
    "none": lambda x: x,
}
_OF_PROBLEM = {"regression": "none", "multi_label_classification": "sigmoid", "single_label_classification": "softmax"}


class TextClassificationPipeline(Pipeline):
    """Labels of texts, or of pairs {"text": ..., "text_pair": ...}.

    A result is {"label", "score"} of the most probable label; with the option `top_k` it is a list of that many, the most
    probable first, or of all labels if `top_k` is None. `function_to_apply` is softmax, sigmoid or none (regression); by
    default the one of the model's problem.
    """

    task = "text-classification"
    accepts = frozenset({"top_k", "function_to_apply"})

    def describes(self) -> str:
        """One input."""
        return 'a text or {"text": ..., "text_pair": ...}'

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """As in `Pipeline`; for a single text without `top_k`, a list of the one result, as in transformers."""
        found = super().__call__(inputs, **options)
        return [found] if isinstance(inputs, str) and isinstance(found, dict) else found

    def check_options(self, options: Mapping[str, Any]) -> None:
        """As in `Pipeline`."""
        check_count(options, "top_k", none=True)
        check_choice(options, "function_to_apply", FUNCTIONS)

    def encode(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Encoded:
        """One example per text or pair."""
        return Encoded(self.encoder([self._text(x) for x in inputs]))

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The logits [R, M, labels]."""
        return Summary(examples={"logits": outputs["logits"]})

    def decode(self, summary: Summary, encoded: Encoded, options: Mapping[str, Any]) -> Iterator[Any]:
        """The labels of each text."""
        names, hf_config = labels_of(self.model.model.hf_config), self.model.model.hf_config
        default = "sigmoid" if len(names) == 1 else "softmax"
        function = options.get("function_to_apply") or _OF_PROBLEM.get(hf_config.get("problem_type") or "", default)
        top_k = options.get("top_k", 1)
        scores = FUNCTIONS[function](summary.examples["logits"].astype(np.float32))
        order = np.argsort(-scores, axis=-1, kind="stable")[:, :top_k]
        for row, best in zip(scores, order, strict=True):
            found = [{"label": names[i], "score": float(row[i])} for i in best.tolist()]
            yield found if "top_k" in options else found[0]

    def _text(self, value: Any) -> Text:
        if isinstance(value, str):
            return self.encoder.clean(value).text
        if isinstance(value, Mapping) and set(value) <= {"text", "text_pair"} and isinstance(value.get("text"), str):
            text, pair = value["text"], value.get("text_pair")
            if pair is None:
                return self.encoder.clean(text).text
            if isinstance(pair, str):
                return self.encoder.clean(text).text, self.encoder.clean(pair).text
        raise UserError(f"an input is {value!r:.100}: must be {self.describes()}")
