"""The pipeline of masked language models, with the results of transformers' `FillMaskPipeline`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from jaxft.core.errors import UserError
from jaxft.data.batching.collect import Summary
from jaxft.data.tokens.replace import select_examples
from jaxft.evaluation.inference import LoadedModel
from jaxft.pipelines.base import Encoded, Pipeline, check_count
from jaxft.tasks.task import Batch, Outputs

TOP_K = 5


class FillMaskPipeline(Pipeline):
    """The most probable tokens in the place of the mask tokens of a text.

    A result is a list of `top_k` (5) {"score", "token", "token_str", "sequence"}, or a list of such lists if the text has
    several mask tokens. `targets`, a token or a list of tokens, are the only ones that are considered; a target that is not
    in the vocabulary stands for its first word piece.
    """

    task = "fill-mask"
    accepts = frozenset({"top_k", "targets"})
    chunk = 128  # the logits of each mask are as many as the vocabulary has tokens

    def __init__(self, model: LoadedModel, max_length: int, options: Mapping[str, Any]) -> None:
        """As in `Pipeline`.

        Raises:
          UserError: if the tokenizer has no mask token.
        """
        if model.tokenizer.mask_token_id is None:
            raise UserError(f"{model.directory}: the tokenizer has no mask token, which {self.task} needs")
        super().__init__(model, max_length, options)

    def describes(self) -> str:
        """One input."""
        return f"a text with {self.model.tokenizer.mask_token}"

    def check_options(self, options: Mapping[str, Any]) -> None:
        """As in `Pipeline`."""
        check_count(options, "top_k", none=True)
        targets = options.get("targets")
        several = isinstance(targets, list | tuple) and all(isinstance(x, str) for x in targets)
        if not (targets is None or isinstance(targets, str) or several):
            raise UserError(f"targets is {targets!r:.100}: must be a token or a list of tokens")

    def probe(self) -> Sequence[Any]:
        """A text with a mask token."""
        return [self.model.tokenizer.mask_token]

    def encode(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Encoded:
        """One example per mask token, all of a text alike, with the column `mask` int32 [N, 1], its position.

        The note of a text is the number of its mask tokens.
        """
        examples = self.encoder(self.texts(inputs))
        at = np.flatnonzero(examples.tokens["input_ids"] == self.model.tokenizer.mask_token_id)
        text = np.searchsorted(examples.offsets, at, side="right") - 1
        counts = np.bincount(text, minlength=len(inputs))
        if not counts.all():
            value, longest = inputs[int(np.argmin(counts))], self.encoder.max_length
            raise UserError(f"an input is {value!r:.100}: has no {self.model.tokenizer.mask_token} in {longest} tokens")
        masks = (at - examples.offsets[text]).astype(np.int32)[:, None]
        return Encoded(select_examples(examples, text).with_columns(mask=masks), counts.tolist())

    def prepare(self, batch: Batch, key: Any) -> Batch:
        """The masks as positions in the rows."""
        return batch | {"token_positions": batch["first_token"] + batch["mask"][..., 0]}

    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """The logits of each mask [R, M, vocabulary]."""
        return Summary(examples={"logits": outputs["logits"]})

    def decode(self, summary: Summary, encoded: Encoded, options: Mapping[str, Any]) -> Iterator[Any]:
        """The best tokens for each text."""
        targets = self._targets(options.get("targets"))
        top_k = options.get("top_k") or TOP_K
        probabilities = softmax(summary.examples["logits"].astype(np.float32), axis=-1)
        chosen = np.arange(probabilities.shape[-1]) if targets is None else targets
        scores = probabilities[:, chosen]
        order = np.argsort(-scores, axis=-1, kind="stable")[:, :top_k]
        examples, begin = encoded.examples, 0
        for count in encoded.notes:
            found = []
            for i in range(begin, begin + count):
                ids = examples.tokens["input_ids"][examples.offsets[i] : examples.offsets[i + 1]]
                mask = int(examples.columns["mask"][i, 0])
                best = [(int(chosen[n]), float(scores[i, n])) for n in order[i].tolist()]
                found.append([self._proposal(ids, mask, token, score, only=count == 1) for token, score in best])
            begin += count
            yield found[0] if count == 1 else found

    def _proposal(self, ids: np.ndarray, mask: int, token: int, score: float, *, only: bool) -> dict[str, Any]:
        tokenizer, filled = self.model.tokenizer, ids.tolist()
        filled[mask] = token
        # Other masks are special tokens, too, and stay.
        text = tokenizer.decode([x for x in filled if x != tokenizer.pad_token_id], skip_special_tokens=only)
        return {"score": score, "token": token, "token_str": tokenizer.decode([token]), "sequence": text}

    def _targets(self, targets: str | Sequence[str] | None) -> np.ndarray | None:
        """The ids of the targets, ascending."""
        if targets is None:
            return None
        vocabulary, ids = self.model.tokenizer.get_vocab(), set()
        for target in [targets] if isinstance(targets, str) else targets:
            pieces = self.model.tokenizer(target, add_special_tokens=False)["input_ids"]
            if target not in vocabulary and not pieces:
                raise UserError(f"targets has {target!r}, for which the tokenizer has no token")
            ids.add(vocabulary[target] if target in vocabulary else pieces[0])
        if not ids:
            raise UserError("targets is empty: give at least one token")
        return np.array(sorted(ids))
