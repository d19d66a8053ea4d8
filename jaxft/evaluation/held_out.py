"""Open a model together with labelled rows that it was not trained on."""

from dataclasses import replace
from typing import Any

from jaxft.config import Config
from jaxft.evaluation.inference import OpenedModel, config_with_task, load_for_inference, read_split
from jaxft.run import rundir
from jaxft.run.splits import validation_rows


def open_with_rows(path: str, config: Config, split: str) -> tuple[OpenedModel, Any]:
    """The model in RUN_OR_MODEL_DIR and the labelled rows of a split.

    Args:
      path: RUN_OR_MODEL_DIR.
      config: from `rundir.config_of`.
      split: "validation" or "test"; if the run has set rows aside and has no validation data, these are its validation rows,
        and the config of the result names their file.

    Raises:
      UserError: if the data cannot be read, or does not fit the model.
    """
    held = split == "validation" and rundir.has_set_aside(config)
    config = config_with_task(path, config)
    rows = None if held else read_split(config, split)  # before the model, so that bad data is reported first
    opened = load_for_inference(path, config)
    if not held:
        return opened, rows
    rows = validation_rows(rundir.run_of(path), opened.task, config, rundir.task_of(path))
    return replace(opened, config=replace(config, data=replace(config.data, validation=config.data.train))), rows
