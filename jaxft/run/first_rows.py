"""Which labels of the training data `data.max_train_examples` leaves out, since it takes the first rows."""

from contextlib import suppress
from itertools import chain, islice
from typing import Any

from jaxft.config import Config
from jaxft.core.errors import UserError, some
from jaxft.tasks.task import Task


def missing_labels(kind: type[Task], whole: Any, rows: Any, config: Config, origin: str) -> str:
    """A line for the log if some labels are in none of the first rows, as in a file that is sorted by label; else "".

    Args:
      kind, config, origin: the task, the config of the run, and the file.
      whole, rows: all rows of the file, and the first ones.
    """
    if len(rows) == len(whole) or not kind.names_labels:
        return ""
    labels = None
    with suppress(UserError):  # a run with a limit does not check the labels of other rows
        labels = kind.row_labels(whole, config, origin)
    found = {*chain.from_iterable(labels or ())}
    missing = sorted(found.difference(chain.from_iterable(islice(labels or (), len(rows)))))
    if not missing:
        return ""
    return (
        f"{origin}: the first {len(rows):,} rows, which data.max_train_examples takes, lack {len(missing):,} of "
        f"{len(found):,} labels ({some(missing, 3)}): if the file is sorted by label, shuffle it"
    )
