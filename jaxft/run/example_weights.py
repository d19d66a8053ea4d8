"""The weights of training examples in the loss (`data.weight`), such as their importance for a target domain."""

import math
from dataclasses import replace

import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.data.tokens.encode import Examples
from jaxft.run.row_columns import column_of_examples
from jaxft.tasks.task import Split, Task

WEIGHTS, TOKEN_WEIGHTS = "weights", "token_weights"  # columns of examples and tokens; the first replaces a batch's own


def with_weights(examples: Examples, weights: np.ndarray) -> Examples:
    """The examples with weights, float32 [N], which are also those of all their tokens."""
    own = weights.astype(np.float32)
    return examples.with_columns(**{WEIGHTS: own}).with_tokens(**{TOKEN_WEIGHTS: np.repeat(own, examples.lengths)})


def weighted(config: Config, task: Task, split: Split) -> Split:
    """The training data with the weights of `data.weight`; the split itself without the option.

    Raises:
      UserError: for a weight that is no number of 0 or more, naming its row, weights that are all 0, or rows that have none.
    """
    column = config.data.weight
    if column is None:
        return split
    values, row_of = column_of_examples(config, task, split, column, "data.weight")
    found = np.empty(len(values), np.float32)
    for i, value in enumerate(values):
        try:
            found[i] = float(value)
        except (TypeError, ValueError, OverflowError):
            found[i] = math.nan
        if not 0 <= found[i] < math.inf:
            where = task.row_names(split.rows, split.origin)(i)
            raise UserError(f'{where} has the weight {value!r} in column "{column}": must be a finite number of 0 or more')
    if not found[row_of].any():
        raise UserError(f'{split.origin}: every weight in column "{column}" is 0: nothing is trained')
    return replace(split, examples=with_weights(split.examples, found[row_of]))
