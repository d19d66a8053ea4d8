"""Masked LM as in Hugging Face's run_mlm.py --line_by_line, but a text longer than `data.max_length` becomes several
examples, as in jaxft, and is not truncated."""

from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.hf.settings import Peer, make_model
from jaxft.core.errors import UserError
from jaxft.run.setup import Run


def make_peer(run: Run) -> Peer:
    """Texts whose words the collator masks anew in every epoch and every evaluation."""
    config = run.config
    if config.data.documents != "lines":
        raise UserError("data.documents is join: the peer trains on data.documents lines only")

    def features(split: str) -> list[dict[str, Any]]:
        texts = run.data[split].rows[config.data.text]
        encoded = run.tokenizer(
            [text if isinstance(text, str) else " ".join(text) for text in texts],
            truncation=True,
            max_length=config.data.max_length,
            return_overflowing_tokens=True,
            return_special_tokens_mask=True,
        )
        names = [name for name in encoded if name != "overflow_to_sample_mapping"]
        return [{name: encoded[name][i] for name in names} for i in range(len(encoded["input_ids"]))]

    def score(split: str, found: Any) -> dict[str, float]:
        loss, words, hits = np.asarray(found.predictions, np.float64).sum(0)
        return {"perplexity": float(np.exp(loss / words)), "accuracy": float(hits / words)}

    return Peer(
        model=make_model(transformers.AutoModelForMaskedLM, config),
        data={split: features(split) for split in run.data},
        collator=transformers.DataCollatorForLanguageModeling(run.tokenizer, mlm_probability=config.task.mask_rate),
        score=score,
        reduce=sums,
    )


def sums(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """[N, 3] of each example: the loss summed over masked tokens, their number, and the number predicted correctly."""
    loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2).float(), labels, reduction="none")
    return torch.stack([loss.sum(1), (labels >= 0).sum(1), (logits.argmax(-1) == labels).sum(1)], dim=1)
