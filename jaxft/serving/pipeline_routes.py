"""Every task as its pipeline answers: one route for all, and one for each task that has no other."""

from collections.abc import Mapping
from typing import Any

from jaxft.serving.call import MODEL, TRUNCATE, Call, Route
from jaxft.serving.fields import ANY, OBJECT, REQUIRED, Field

OPTIONS = {
    "token-classification": {
        "aggregation_strategy": "none, simple (the default), first, average or max",
        "ignore_labels": 'labels that are left out; ["O"] by default',
        "stride": "tokens that the windows of a long text share; without it long texts are cut",
        "is_split_into_words": "whether an input is a list of words",
    },
    "question-answering": {
        "top_k": "answers of each question; 1 by default",
        "doc_stride": "tokens that the windows of a long context share; 128 by default",
        "max_answer_len": "tokens of the longest answer; 15 by default",
        "handle_impossible_answer": "whether the answer may be empty",
        "align_to_words": "whether answers end with whole words; true by default",
    },
    "fill-mask": {"top_k": "tokens for each mask; 5 by default", "targets": "tokens that are considered; all by default"},
    "multiple-choice": {},
}
EXAMPLES: Mapping[str, tuple[str, str, Any]] = {
    "token-classification": ("/tags", "the entities of texts", "Ada Lovelace lived in London."),
    "question-answering": (
        "/answers",
        "answers of questions from their contexts",
        {"question": "Where did Ada live?", "context": "Ada lived in London."},
    ),
    "fill-mask": ("/fill", "the most probable words in place of masks", "I lost my [MASK]."),
    "multiple-choice": ("/choices", "the best of some choices", {"text": "I lost", "choices": ["my card.", "the sky."]}),
}


async def answer(call: Call, options: Mapping[str, Any]) -> Any:
    """The result of one input, or a list of those of a list."""
    inputs = call.values["inputs"]
    words = options.get("is_split_into_words") and isinstance(inputs, list) and all(isinstance(x, str) for x in inputs)
    one = words or not isinstance(inputs, list)
    found = await call.results([inputs] if one else inputs, **options)
    return found[0] if one else found


async def any_task(call: Call) -> Any:
    """As an endpoint of Hugging Face's inference API answers."""
    return await answer(call, call.values["parameters"])


async def own_task(call: Call) -> Any:
    """With the options of the pipeline as fields."""
    options = {name: call.values[name] for name in OPTIONS[call.pipeline.task] if call.values[name] is not None}
    if call.pipeline.task == "token-classification":
        options.setdefault("aggregation_strategy", "simple")
    return await answer(call, options)


def _of_task(task: str) -> Route:
    path, about, example = EXAMPLES[task]
    fields = {"inputs": Field(ANY, REQUIRED, "an input or a list of inputs")}
    fields |= {name: Field(ANY, None, words) for name, words in OPTIONS[task].items()}
    fields |= {"truncate": TRUNCATE, "model": MODEL}
    return Route(path, about, frozenset({task}), fields, own_task, {"inputs": example})


_INPUTS = Field(ANY, REQUIRED, "an input of the model's pipeline or a list of inputs")
_PARAMETERS = Field(OBJECT, {}, "options of the pipeline")
ROUTES = (
    *map(_of_task, EXAMPLES),
    Route(
        "/pipeline",
        "what jaxft.pipeline gives for any model",
        frozenset(),
        {"inputs": _INPUTS, "parameters": _PARAMETERS, "truncate": TRUNCATE, "model": MODEL},
        any_task,
        {"inputs": "a text", "parameters": {}},
    ),
)
