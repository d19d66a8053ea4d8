"""What a server says of itself and of its models, and how it tokenises texts."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from jaxft.models.model import labels_of
from jaxft.pipelines.base import Pipeline
from jaxft.serving.call import MODEL, Call, Route
from jaxft.serving.fields import FLAG, ONE_OR_MORE, REQUIRED, Field
from jaxft.serving.refusals import Refused
from jaxft.serving.service import Service


def information(service: Service, routes: Sequence[Route]) -> dict[str, Any]:
    """The fields of Text Embeddings Inference's /info for the first model, and the same of each model."""
    first, limits = next(iter(service.models)), service.limits
    each = [{"name": name} | _about(x, routes) for name, x in service.models.items()]
    return {
        "model_id": first,
        "model_sha": None,
        "model_dtype": service.models[first].model.config.train.dtype,
        "model_type": each[0]["model_type"],
        "max_concurrent_requests": limits.requests,
        "max_input_length": service.models[first].longest,
        "max_batch_tokens": limits.batch_tokens,
        "max_client_batch_size": limits.texts,
        "auto_truncate": limits.truncate,
        "version": version("jaxft"),
        "models": each,
    }


def _about(pipeline: Pipeline, routes: Sequence[Route]) -> dict[str, Any]:
    hf_config = pipeline.model.model.hf_config
    names, kind = list(labels_of(hf_config)), dict[str, Any]()
    if pipeline.task == "feature-extraction":
        kind = {"embedding": {"pooling": pipeline.options.get("pooling") or "mean"}}
    elif pipeline.task in ("text-classification", "token-classification"):
        by_number = {str(i): name for i, name in enumerate(names)}
        numbers = {"id2label": by_number, "label2id": {name: i for i, name in enumerate(names)}}
        kind = {"reranker" if len(names) == 1 else "classifier": numbers}
    own = [x.path for x in routes if not x.tasks or pipeline.task in x.tasks]
    shapes = [[x.rows, x.length] for x in pipeline.forward.shapes]
    return {
        "task": pipeline.task,
        "model_type": kind,
        "family": hf_config["model_type"],
        "max_input_length": pipeline.longest,
        "shapes": shapes,
        "routes": own,
    }


async def tokenize(call: Call) -> list[list[dict[str, Any]]]:
    """The tokens of each text."""
    given, tokenizer = call.values["inputs"], call.pipeline.model.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise Refused("Validation", f"{type(tokenizer).__name__} gives no character offsets, which /tokenize needs")
    texts = [given] if isinstance(given, str) else given
    call.service.check_count(texts)
    found = tokenizer(texts, add_special_tokens=call.values["add_special_tokens"], truncation=False).encodings or []
    return [
        [
            {"id": i, "text": token, "special": bool(special), "start": start, "stop": stop}
            for i, token, special, (start, stop) in zip(x.ids, x.tokens, x.special_tokens_mask, x.offsets, strict=True)
        ]
        for x in found
    ]


def tokens_of() -> Route:
    """The route of `tokenize`."""
    fields = {
        "inputs": Field(ONE_OR_MORE, REQUIRED, "a text or a list of texts"),
        "add_special_tokens": Field(FLAG, True, "whether special tokens are added"),
        "model": MODEL,
    }
    return Route("/tokenize", "the tokens of texts", frozenset(), fields, tokenize, {"inputs": "a text"})
