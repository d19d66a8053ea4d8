"""Embeddings: the routes of Text Embeddings Inference and of OpenAI."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxft.serving.call import MODEL, TRUNCATE, Call, Route
from jaxft.serving.fields import COUNT, FLAG, OBJECT, ONE_OR_MORE, REQUIRED, TEXT, Field, choice
from jaxft.serving.refusals import Refused

TASK = frozenset({"feature-extraction"})
DIMENSIONS = Field(COUNT, None, "only the first numbers of each vector, before it is normalised")
NORMALIZE = Field(FLAG, True, "whether vectors have length 1")


async def vectors(call: Call, texts: Sequence[str], *, normalize: bool) -> list[np.ndarray]:
    """One vector float32 [D] for each text."""
    pooling = call.pipeline.options.get("pooling") or "mean"
    found = await call.results(texts, pooling=pooling, return_tensors=True)
    size = call.values.get("dimensions") or len(found[0])
    if size > len(found[0]):
        raise Refused("Validation", f"dimensions is {size}: must be at most {len(found[0])}, the width of the model")
    found = [x[:size] for x in found]
    return [x / max(float(np.linalg.norm(x)), 1e-12) for x in found] if normalize else found


async def embed(call: Call) -> list[np.ndarray]:
    """One vector for each text."""
    return await vectors(call, _listed(call.values["inputs"]), normalize=call.values["normalize"])


async def embed_all(call: Call) -> list[np.ndarray]:
    """The vectors [T, D] of the tokens of each text."""
    found = await call.results(_listed(call.values["inputs"]), return_tensors=True)
    return [np.ascontiguousarray(x[0]) for x in found]


async def similarity(call: Call) -> list[float]:
    """The cosine of the angle between a text and each of others."""
    given = call.values["inputs"]
    source, others = given.get("source_sentence"), given.get("sentences")
    if (
        not isinstance(source, str)
        or not isinstance(others, list)
        or not all(isinstance(x, str) for x in others)
        or not others
    ):
        raise Refused("Validation", 'inputs must be {"source_sentence": a text, "sentences": a list of texts}')
    first, *rest = await vectors(call, [source, *others], normalize=True)
    return [float(x @ first) for x in rest]


async def openai(call: Call) -> dict[str, Any]:
    """As OpenAI answers."""
    found = await vectors(call, _listed(call.values["input"]), normalize=True)
    coded = call.values["encoding_format"] == "base64"
    data = [
        {"object": "embedding", "index": i, "embedding": base64.b64encode(x.tobytes()).decode() if coded else x}
        for i, x in enumerate(found)
    ]
    usage = {"prompt_tokens": call.note["tokens"], "total_tokens": call.note["tokens"]}
    return {"object": "list", "data": data, "model": call.model, "usage": usage}


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


_INPUTS = Field(ONE_OR_MORE, REQUIRED, "a text or a list of texts")
_COMMON = {"truncate": TRUNCATE, "truncation_direction": Field(choice("right", "Right"), "right", "where texts are cut")}
ROUTES = (
    Route(
        "/embed",
        "one vector for each text",
        TASK,
        {"inputs": _INPUTS, "normalize": NORMALIZE, "dimensions": DIMENSIONS, **_COMMON, "model": MODEL},
        embed,
        {"inputs": "What is a card PIN?"},
    ),
    Route(
        "/embed_all",
        "one vector for each token of each text",
        TASK,
        {"inputs": _INPUTS, **_COMMON, "model": MODEL},
        embed_all,
        {"inputs": "What is a card PIN?"},
    ),
    Route(
        "/similarity",
        "the cosine similarity of a text and others",
        TASK,
        {"inputs": Field(OBJECT, REQUIRED, "source_sentence, a text, and sentences, a list"), **_COMMON, "model": MODEL},
        similarity,
        {"inputs": {"source_sentence": "a card", "sentences": ["a PIN", "a bank"]}},
    ),
    Route(
        "/v1/embeddings",
        "vectors as OpenAI gives them",
        TASK,
        {
            "input": _INPUTS,
            "model": MODEL,
            "encoding_format": Field(choice("float", "base64"), "float", "how a vector is written"),
            "dimensions": DIMENSIONS,
            "user": Field(TEXT, None, "not used"),
        },
        openai,
        {"input": "What is a card PIN?"},
    ),
)
