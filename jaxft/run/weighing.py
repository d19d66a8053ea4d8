"""The training rows of a run with their importance for texts of a target domain, as tables that a file can hold."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError, naming
from jaxft.data.formats.other_columns import with_other_columns
from jaxft.data.quality.importance import Importance, importance, words_of
from jaxft.data.reading.empty_texts import check_not_kept
from jaxft.run.unlabelled import config_of_texts
from jaxft.tasks import task_class
from jaxft.tasks.custom import file_rows
from jaxft.tasks.limits import first_rows
from jaxft.tasks.task import Task

Features = Callable[[Sequence[str]], Any]  # texts -> float32 [N, D]


@dataclass(frozen=True)
class WeighedRows:
    """The training rows with their importance.

    Attributes:
      config, kind: of the run, and its task.
      rows: as many as there are weights.
      found: the importance.
    """

    config: Config
    kind: type[Task]
    rows: Any
    found: Importance

    def line(self) -> str:
        """What was found, for the log."""
        weights = self.found.weights
        return (
            f"a classifier tells the domains apart with an AUC of {self.found.auc:.3f}; weights from {weights.min():.3g} to "
            f"{weights.max():.3g} leave {self.found.effective:,.0f} effective examples of {len(weights):,}"
        )

    def tables(self, column: str) -> Iterator[Any]:
        """All columns of the file, and that of the weights, as Arrow tables.

        Raises:
          UserError: if there is a column of this name.
        """
        import datasets
        import pyarrow as pa

        tables, numbers = self.kind.file_tables(self.rows, self.config), file_rows(self.kind, self.rows)
        if numbers is not None and len(numbers):
            tables = with_other_columns(tables, numbers, self.config.data, "train", tagged=self.kind.tags_words)
        start, weight = 0, datasets.Value("float64")
        for table in tables:
            if column in table.column_names:
                raise UserError(f'--column {column}: {self.config.data.train} has a column "{column}"; give another name')
            own = pa.array(np.round(self.found.weights[start : start + len(table)], 6))
            start += len(table)
            features = datasets.Features({**datasets.Features.from_arrow_schema(table.schema), column: weight})
            yield table.append_column(column, own).replace_schema_metadata(features.arrow_schema.metadata)


def weigh(config: Config, target: str, *, clip: float, features: Features | None = None) -> WeighedRows:
    """Estimate the importance of the training rows for the texts of the file `target`.

    Args:
      config: of the run; also says which columns of the file have the texts.
      target, clip: the file; the largest ratio, as in `importance`.
      features: of texts; by default their words.

    Raises:
      UserError: for data that cannot be read, or too few texts.
    """
    check_not_kept(config.data)
    kind = task_class(config)
    rows = first_rows(kind, kind.read(config, "train"), config, "train")
    of_target = config_of_texts(config, target)
    with naming("--target", instead_of="data.train"):
        others = kind.read(of_target, "train", labelled=kind.masks_inputs)
    both = _texts(kind, rows, config), _texts(kind, others, of_target)
    both = tuple(map(features, both)) if features else words_of(*both)
    return WeighedRows(config, kind, rows, importance(*both, clip=clip, seed=config.seed))


def _texts(kind: type[Task], rows: Any, config: Config) -> list[str]:
    """The texts of each row in one; `Task.texts` gives those of one column after the other."""
    texts, count = [*kind.texts(rows, config)], len(rows)
    return [" ".join(texts[i::count]) for i in range(count)]
