"""What a smaller variant of a model loses: its score on the validation data beside that of the model in float32."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jaxft.core.errors import UserError
from jaxft.deploy.replay import Arrays, Run, replayed
from jaxft.evaluation.inference import OpenedModel, evaluate


def scores_beside(
    opened: OpenedModel, rows: Any, split: str, run: Run, dtype: str, most: float, say: Callable[[str], None]
) -> tuple[dict[str, Any], Arrays]:
    """Evaluate the model and its variant on the rows of a split.

    Args:
      opened: the model in float32, with its task.
      rows, split: from `open_with_rows`.
      run: the variant.
      dtype: its name.
      most: the largest accepted loss of the main score (`eval.metric`), in its own unit.
      say: is called with messages.

    Returns:
      What export.json says of it, and the first inputs that the variant has had.

    Raises:
      UserError: if the variant loses more, or there is no score.
    """
    task, data = opened.task, getattr(opened.config.data, split)
    metric = opened.config.eval.metric or next(iter(task.metrics))
    before, _ = evaluate(opened, rows, split, say)
    variant = replayed(opened.model, run)
    after, _ = evaluate(replace(opened, model=variant), rows, split, say)
    if before.get(metric) is None or after.get(metric) is None:
        raise UserError(f"{data}: gives no {metric} to compare {dtype} with float32 by; give other --data.validation")
    better = 1 if task.metrics.get(metric, metric != "loss") else -1
    lost = (before[metric] - after[metric]) * better
    if not lost <= most:
        raise UserError(
            f"{dtype} loses {lost:.4g} of {metric} on {data}, {before[metric]:.4g} in float32 and {after[metric]:.4g} in "
            f"{dtype}: more than --max_drop {most:g}; nothing was written"
        )
    found = {"metric": metric, "data": str(data), "float32": before[metric], dtype: after[metric], "max_drop": most}
    return {**found, "all": {"float32": before, dtype: after}}, variant.seen[0]
