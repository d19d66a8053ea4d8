"""TensorBoard's event files: every float of a row of metrics.jsonl as a scalar. Only the main process writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxft.core import distributed
from jaxft.training.hooks import End, Evaluation, Hook, Step


class TensorBoard(Hook):
    """Scalars in DIRECTORY/tensorboard, of which those after `start_step` are replaced."""

    def __init__(self, directory: Path, start_step: int) -> None:
        self._writer: Any = None
        if distributed.is_main_process():
            import tensorboardX

            self._writer = tensorboardX.SummaryWriter(str(directory / "tensorboard"), purge_step=start_step + 1)

    def on_step(self, step: Step) -> None:
        """The scalars of a step that is logged."""
        if step.speed is not None:
            self._add(step.row())

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """The scores."""
        self._add(evaluation.row())

    def on_end(self, end: End) -> None:
        """The results."""
        self._add(end.row())

    def _add(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if self._writer and isinstance(value, float):
                self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Flush and close."""
        if self._writer:
            self._writer.close()
