"""Text classification as in Hugging Face's run_glue.py and run_classification.py: one label, several, or numbers."""

from typing import Any

import numpy as np
import transformers

from benchmarks.hf.settings import Peer, make_model, named
from jaxft.run.setup import Run
from jaxft.tasks.labels import PROBLEM_TYPES
from jaxft.tasks.metrics.classification import (
    SparseConfusion,
    best_threshold,
    classification_scores,
    multi_label_scores,
    roc_auc,
)
from jaxft.tasks.metrics.regression import regression_scores


def make_peer(run: Run) -> Peer:
    """Texts or pairs of texts, padded batch by batch."""
    config, labels = run.config, tuple(run.task.labels or ())
    data, problem = config.data, config.task.problem
    gold: dict[str, Any] = {split: np.asarray(x.examples.columns["labels"]) for split, x in run.data.items()}
    if problem == "multi_label":
        gold = {split: x.astype(np.float32) for split, x in gold.items()}
    elif problem == "regression" and len(labels) == 1:
        gold = {split: x[:, 0] for split, x in gold.items()}

    def features(split: str) -> list[dict[str, Any]]:
        rows = run.data[split].rows
        texts = [list(rows[column]) for column in (data.text, data.text_pair) if column]
        encoded = run.tokenizer(*texts, truncation=True, max_length=data.max_length)
        return [
            {name: encoded[name][i] for name in encoded} | {"labels": label.tolist()} for i, label in enumerate(gold[split])
        ]

    thresholds = {"given": 0.5 if config.task.threshold == "tune" else config.task.threshold}

    def score(split: str, found: Any) -> dict[str, float]:
        logits, right = np.asarray(found.predictions, np.float64), gold[split]
        if problem == "regression":
            return numbers_of(regression_scores(right.reshape(len(right), -1), logits.reshape(len(right), -1), labels))
        if problem == "multi_label":
            probabilities = 1 / (1 + np.exp(-logits))
            if config.task.threshold == "tune" and split == "validation":
                thresholds["given"] = best_threshold(right > 0, probabilities)
            return numbers_of(multi_label_scores(right > 0, probabilities, thresholds["given"], labels))
        scores = classification_scores(SparseConfusion.count(right, logits.argmax(-1), len(labels)))
        area = roc_auc(right == 1, logits[:, 1] - logits[:, 0]) if len(labels) == 2 else None
        return scores | ({} if area is None else {"roc_auc": area})

    auto = transformers.AutoModelForSequenceClassification
    return Peer(
        model=make_model(auto, config, problem_type=PROBLEM_TYPES[problem], **named(labels)),
        data={split: features(split) for split in run.data},
        collator=transformers.DataCollatorWithPadding(run.tokenizer),
        score=score,
    )


def numbers_of(scores: dict[str, Any]) -> dict[str, float]:
    """Scores without their tables."""
    return {name: value for name, value in scores.items() if isinstance(value, (int, float))}
