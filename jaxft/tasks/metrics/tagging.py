"""Scores of taggers: entity scores by seqeval, scores of single tags by scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxft.tasks.metrics.classification import SparseConfusion, classification_scores, label_scores

Tags = Sequence[Sequence[str]]


def entity_scores(gold: Tags, predicted: Tags) -> dict[str, Any]:
    """Scores from the IOB2 tags of each sentence.

    They are precision, recall and F1 of whole entities, micro-averaged over types, `accuracy` of single tags, and `types`
    with precision, recall, f1 and support (number of gold entities) of each type. As in Hugging Face's run_ner (`evaluate`'s
    seqeval in default mode, the rules of conlleval), an entity is right if its type and both ends are right, and a tag that
    continues no entity begins one.
    """
    from seqeval.metrics.sequence_labeling import accuracy_score, get_entities, precision_recall_fscore_support

    gold, predicted = [list(tags) for tags in gold], [list(tags) for tags in predicted]
    count: Any = precision_recall_fscore_support
    overall, by_type = (count(gold, predicted, average=average, zero_division=0) for average in ("micro", None))
    types = sorted({kind for tags in (gold, predicted) for kind, *_ in get_entities(tags)})

    def row(precision: Any, recall: Any, f1: Any) -> dict[str, float]:
        return {"precision": float(precision), "recall": float(recall), "f1": float(f1)}

    return {
        **row(*overall[:3]),
        "accuracy": float(accuracy_score(gold, predicted)),
        "types": {kind: {**row(*x), "support": int(n)} for kind, *x, n in zip(types, *by_type, strict=True)},
    }


def tag_scores(gold: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Accuracy and macro F1 of single tags, ids int [words], and the scores of each tag (see `label_scores`)."""
    confusion = SparseConfusion.count(gold, predicted, len(names))
    scores = classification_scores(confusion)
    return {name: scores[name] for name in ("accuracy", "macro_f1")} | label_scores(confusion, names)
