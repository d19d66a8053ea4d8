"""The inference protocol of KServe, version 2 (https://kserve.github.io/website/docs/concepts/architecture/data-plane)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from jaxft.models.model import labels_of
from jaxft.pipelines.base import Pipeline
from jaxft.serving.call import TRUNCATE, Call, Route
from jaxft.serving.embeddings import vectors
from jaxft.serving.fields import OBJECT, REQUIRED, TEXT, Field, Kind
from jaxft.serving.refusals import Refused

# The tensors that a model takes, one row for each input; the others are not needed.
INPUTS = {
    "text-classification": ("text", "text_pair"),
    "question-answering": ("question", "context"),
    "multiple-choice": ("input",),
}
NEEDED = {"text-classification": 1}
Tensor = dict[str, Any]


def metadata(name: str, pipeline: Pipeline) -> dict[str, Any]:
    """What a model takes and gives."""
    takes = [{"name": x, "datatype": "BYTES", "shape": [-1]} for x in INPUTS.get(pipeline.task, ("text",))]
    width, labels = pipeline.model.model.encoder.config.hidden_size, len(labels_of(pipeline.model.model.hf_config))
    gives: Sequence[tuple[str, str, list[int]]] = {
        "text-classification": [("label", "BYTES", [-1]), ("score", "FP32", [-1]), ("scores", "FP32", [-1, labels])],
        "feature-extraction": [("embedding", "FP32", [-1, width])],
    }.get(pipeline.task, [("result", "BYTES", [-1])])
    outputs = [{"name": x, "datatype": kind, "shape": shape} for x, kind, shape in gives]
    return {"name": name, "versions": ["1"], "platform": "jaxft", "inputs": takes, "outputs": outputs}


async def infer(call: Call) -> dict[str, Any]:
    """The tensors of all inputs."""
    task, values = call.pipeline.task, call.values
    columns = _columns(values["inputs"], INPUTS.get(task, ("text",)), NEEDED.get(task, 2))
    make: Callable[[Call, Mapping[str, list[str]]], Any] = _MAKERS.get(task, _results)
    outputs = await make(call, columns)
    if wanted := values["outputs"]:
        asked = [x.get("name") for x in wanted]
        for name in asked:
            if name not in {x["name"] for x in outputs}:
                raise Refused("Validation", f"there is no output {name!r:.100}: {', '.join(x['name'] for x in outputs)}")
        outputs = [x for x in outputs if x["name"] in asked]
    own_id = {} if values["id"] is None else {"id": values["id"]}
    return {"model_name": call.model, "model_version": "1", **own_id, "outputs": outputs}


def _columns(tensors: Any, names: Sequence[str], needed: int) -> dict[str, list[str]]:
    """The texts of each tensor, all as many."""
    found: dict[str, list[str]] = {}
    for tensor in tensors:
        name, data, kind = tensor.get("name"), tensor.get("data"), tensor.get("datatype")
        if name not in names:
            raise Refused("Validation", f"there is no input {name!r:.100}: the inputs are {', '.join(names)}")
        if kind != "BYTES" or not isinstance(data, list) or not all(isinstance(x, str) for x in data):
            raise Refused("Validation", f"input {name} must be of datatype BYTES, with data that is a list of texts")
        if tensor.get("shape") not in ([len(data)], [len(data), 1]):
            raise Refused("Validation", f"input {name} has shape {tensor.get('shape')!r:.100}: must be [{len(data)}]")
        found[name] = data
    if missing := [name for name in names[:needed] if name not in found]:
        raise Refused("Validation", f"input {missing[0]} is missing")
    if len({len(x) for x in found.values()}) > 1:
        raise Refused("Validation", "the inputs have different numbers of rows")
    return found


async def _labels(call: Call, columns: Mapping[str, list[str]]) -> list[Tensor]:
    names, pairs = call.labels, columns.get("text_pair")
    texts: list[Any] = list(columns["text"])
    if pairs is not None:
        texts = [{"text": text, "text_pair": pair} for text, pair in zip(texts, pairs, strict=True)]
    found = await call.results(texts, top_k=len(names))
    scores = [[{x["label"]: x["score"] for x in row}[name] for name in names] for row in found]
    return [
        _tensor("label", "BYTES", [row[0]["label"] for row in found]),
        _tensor("score", "FP32", [row[0]["score"] for row in found]),
        _tensor("scores", "FP32", [x for row in scores for x in row], len(names)),
    ]


async def _embeddings(call: Call, columns: Mapping[str, list[str]]) -> list[Tensor]:
    found = np.stack(await vectors(call, columns["text"], normalize=True))
    return [_tensor("embedding", "FP32", found.ravel(), found.shape[1])]


async def _results(call: Call, columns: Mapping[str, list[str]]) -> list[Tensor]:
    """The result of each input, as JSON."""
    names = list(columns)
    inputs: list[Any] = list(columns[names[0]])
    if names == ["input"]:
        try:
            inputs = [orjson.loads(x) for x in inputs]
        except orjson.JSONDecodeError as error:
            raise Refused("Validation", f"an input is not JSON: {error}") from None
    elif len(names) > 1:
        inputs = [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    found = await call.results(inputs)
    return [_tensor("result", "BYTES", [orjson.dumps(x).decode() for x in found])]


def _tensor(name: str, kind: str, data: Any, *more: int) -> Tensor:
    rows = len(data) // more[0] if more else len(data)
    return {"name": name, "datatype": kind, "shape": [rows, *more], "data": data}


_MAKERS = {"text-classification": _labels, "feature-extraction": _embeddings}


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(x, dict) for x in value)


TENSORS = Kind({"type": "array", "items": {"type": "object"}}, "a list of tensors", _are_objects)
INFER = Route(
    "/v2/models/{model}/infer",
    "the inference protocol of KServe",
    frozenset(),
    {
        "inputs": Field(TENSORS, REQUIRED, "name, shape, datatype BYTES and data of each"),
        "outputs": Field(TENSORS, [], "the names of those that are wanted; all by default"),
        "id": Field(TEXT, None, "comes back"),
        "parameters": Field(OBJECT, {}, "not used"),
        "truncate": TRUNCATE,
    },
    infer,
    {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a text"]}]},
)
