"""`pipeline`: opens a model for its task."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxft.config import Config
from jaxft.core import backend
from jaxft.core.errors import UserError
from jaxft.evaluation import inference
from jaxft.models.model import make_model
from jaxft.pipelines.base import Pipeline
from jaxft.pipelines.feature_extraction import FeatureExtractionPipeline
from jaxft.pipelines.fill_mask import FillMaskPipeline
from jaxft.pipelines.multiple_choice import MultipleChoicePipeline
from jaxft.pipelines.question_answering import QuestionAnsweringPipeline
from jaxft.pipelines.text_classification import TextClassificationPipeline
from jaxft.pipelines.token_classification import TokenClassificationPipeline
from jaxft.run import rundir
from jaxft.run.stored_cleaning import cleaned_as_stored
from jaxft.run.trained_models import fetched

PIPELINES: dict[str, type[Pipeline]] = {
    x.task: x
    for x in (
        FeatureExtractionPipeline,
        FillMaskPipeline,
        MultipleChoicePipeline,
        QuestionAnsweringPipeline,
        TextClassificationPipeline,
        TokenClassificationPipeline,
    )
}
_KINDS = {"fill-mask": ("fill-mask", "pretraining")}  # kinds of heads that a pipeline can use, if not only its own
LONGEST = 512  # tokens, if neither the model nor its tokenizer has a smaller limit


def pipeline(
    model: str | Path,
    task: str | None = None,
    *,
    revision: str | None = None,
    max_length: int | None = None,
    dtype: str = "float32",
    **options: Any,
) -> Pipeline:
    """Open a fine-tuned model as a function of texts.

    Args:
      model: a run directory, a model directory (also of an adapter), a hub id, or `package:NAME/SUBDIR`.
      task: Hugging Face's name of the task; by default the one that the model was fine-tuned for.
      revision: branch, tag or commit of a hub id.
      max_length: longer texts are truncated to this many tokens; by default that of the run, or else what the model and its
        tokenizer allow, at most 512.
      dtype: float32 or bfloat16, of activations and matrix products.
      options: of every call, as the class of the task describes them, such as `top_k`.

    Raises:
      UserError: if the model cannot be opened or is not one for the task.
    """
    path = fetched(str(model))
    overrides = [f"--train.dtype={dtype}", *([f"--model.revision={revision}"] if revision else [])]
    config = rundir.config_of(path, overrides)
    runtime = config.runtime
    backend.start(precision=runtime.precision, compile_cache=runtime.compile_cache, distributed="off")
    kind, hf_config = inference.head_of(path, config)
    longest = _longest(path, config, kind, hf_config, max_length)
    config = replace(config, data=replace(config.data, max_length=longest))
    task = task or {None: inference.FEATURES, "pretraining": "fill-mask"}.get(kind, kind)
    if task not in PIPELINES:
        raise UserError(f"task is {task!r}: must be one of {', '.join(PIPELINES)}")
    if kind not in _KINDS.get(task, (task,)) and task != inference.FEATURES:
        raise UserError(f"{path}: has the head of {kind or 'no known task'}, which the {task} pipeline cannot use")
    if task in _KINDS or task == inference.FEATURES:  # neither needs what a task has learned
        opened = inference.load_model(path, cleaned_as_stored(config, hf_config), task)
    else:
        opened = inference.load_for_inference(path, inference.config_with_task(path, config))
    return PIPELINES[task](opened, int(min(longest, opened.tokenizer.model_max_length)), options)


def _longest(path: str, config: Config, kind: str | None, hf_config: Mapping[str, Any], max_length: int | None) -> int:
    """The tokens of the longest text.

    Raises:
      UserError: if `max_length` is more than the model has positions for, or less than two tokens.
    """
    positions = make_model(hf_config, kind or inference.FEATURES, path).encoder.config.usable_positions
    if max_length is not None:
        if max_length < 2 or (positions is not None and max_length > positions):
            most = "" if positions is None else f" and at most {positions}, the model's positions"
            raise UserError(f"max_length is {max_length}: must be at least 2{most}")
        return max_length
    own = config.data.max_length if rundir.is_run(Path(path)) else LONGEST
    return own if positions is None else min(own, positions)
