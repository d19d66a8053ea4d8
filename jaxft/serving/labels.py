"""Labels and ranks of texts: the routes of Text Embeddings Inference."""

from typing import Any

import numpy as np
from scipy.special import expit

from jaxft.serving.call import MODEL, TRUNCATE, Call, Route
from jaxft.serving.fields import FLAG, REQUIRED, TEXT, TEXTS, Field, Kind
from jaxft.serving.refusals import Refused

TASK = frozenset({"text-classification"})


def _is_sequence(value: Any) -> bool:
    """A text, or a list of a text or of two texts, which are a pair."""
    if isinstance(value, str):
        return True
    return isinstance(value, list) and len(value) in (1, 2) and all(isinstance(x, str) for x in value)


def _is_predict_input(value: Any) -> bool:
    several = isinstance(value, list) and all(isinstance(x, list) and _is_sequence(x) for x in value)
    return _is_sequence(value) or several


_SEQUENCE = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2}
SEQUENCES = Kind(
    {"oneOf": [{"type": "string"}, _SEQUENCE, {"type": "array", "items": _SEQUENCE}]},
    'a text, a pair ["a", "b"], or a list of texts [["a"], ["b"]] or of pairs [["a", "b"], ["c", "d"]]',
    _is_predict_input,
)


async def predict(call: Call) -> list[Any]:
    """The labels of each text or pair, the most probable first; of one text, its labels alone."""
    given = call.values["inputs"]
    one = _is_sequence(given) and given != []
    function = "none" if call.values["raw_scores"] else None
    found = await call.results(
        [_input(x) for x in ([given] if one else given)], top_k=len(call.labels), function_to_apply=function
    )
    return found[0] if one else found


async def rerank(call: Call) -> list[dict[str, Any]]:
    """The texts by how well they fit the query, the best first; for models with one label, trained on pairs."""
    labels = call.labels
    if len(labels) != 1:
        raise Refused("Validation", f"model {call.model} has {len(labels)} labels: /rerank needs one, use /predict")
    query, texts = call.values["query"], call.values["texts"]
    inputs = [{"text": query, "text_pair": text} for text in texts]
    found = await call.results(inputs, top_k=1, function_to_apply="none")
    scores = np.array([x[0]["score"] for x in found], np.float32)
    scores = scores if call.values["raw_scores"] else expit(scores)
    rows = [{"index": int(i), "score": float(scores[i])} for i in np.argsort(-scores, kind="stable")]
    return [row | {"text": texts[row["index"]]} for row in rows] if call.values["return_text"] else rows


def _input(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return value[0] if len(value) == 1 else {"text": value[0], "text_pair": value[1]}


RAW = Field(FLAG, False, "whether scores are logits, not probabilities")
ROUTES = (
    Route(
        "/predict",
        "the labels of texts or pairs of texts",
        TASK,
        {"inputs": Field(SEQUENCES, REQUIRED, SEQUENCES.words), "raw_scores": RAW, "truncate": TRUNCATE, "model": MODEL},
        predict,
        {"inputs": "My card was declined."},
    ),
    Route(
        "/rerank",
        "texts by how well they fit a query",
        TASK,
        {
            "query": Field(TEXT, REQUIRED, "a text"),
            "texts": Field(TEXTS, REQUIRED, "texts that may fit"),
            "raw_scores": RAW,
            "return_text": Field(FLAG, False, "whether the texts come back"),
            "truncate": TRUNCATE,
            "model": MODEL,
        },
        rerank,
        {"query": "a card", "texts": ["a PIN", "a bank"]},
    ),
)
