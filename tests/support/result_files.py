"""What the files of a run say about its predictions."""

from pathlib import Path

from jaxft.report.outcomes import is_right
from tests.support import read_jsonl


def predictions_of(directory: Path, split: str = "validation") -> list[dict]:
    """The rows of a run's file of predictions."""
    return read_jsonl(directory / f"predictions/{split}.jsonl")


def share_right(directory: Path, split: str = "validation") -> float:
    """The share of predictions that the report counts as right."""
    rows = predictions_of(directory, split)
    return sum(map(is_right, rows)) / len(rows)
