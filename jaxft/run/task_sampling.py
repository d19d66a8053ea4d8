"""How a run of several tasks draws their examples, from its config and its data."""

from collections.abc import Mapping

import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.data.batching.task_orders import Shares, TaskOrders
from jaxft.run.task_scores import TaskScores
from jaxft.tasks.several_splits import SeveralSplits
from jaxft.tasks.task import Split


def order_seed(config: Config) -> int:
    """The seed of the order of the training examples."""
    return config.seed if config.data.order_seed is None else config.data.order_seed


def task_orders(config: Config, data: Mapping[str, Split], epochs: int) -> tuple[TaskOrders, TaskScores | None]:
    """(the orders of a run of several tasks, of `epochs` epochs, the scores that they depend on).

    Raises:
      UserError: if a step has no room for an example of each task, or an epoch no step for each, or scores are needed that
        nothing gives.
    """
    own, train, validation = config.sampling, data["train"], data.get("validation")
    assert isinstance(train, SeveralSplits)
    size, names = min(config.train.batch_size, len(train.examples)), [x.name for x in config.tasks]
    if own.per_step == "mixed" and size < len(names):
        raise UserError(
            f"train.batch_size is {config.train.batch_size}: must be {len(names)} or more, because a step has examples of "
            f"each of the {len(names)} tasks (sampling.per_step one gives each step to one task)"
        )
    if own.per_step == "one" and (steps := -(-len(train.examples) // size)) < len(names):
        raise UserError(
            f"train.batch_size is {config.train.batch_size}: an epoch of {len(train.examples):,} examples has "
            f"{'one step' if steps == 1 else f'{steps} steps'}, and {len(names)} tasks need one each: lower it, or set "
            "sampling.per_step to mixed"
        )
    scores = None
    if own.sampler == "validation":
        evaluated = validation.parts if isinstance(validation, SeveralSplits) else {}
        if missing := [name for name in names if name not in evaluated]:
            raise UserError(
                f"sampling.sampler validation follows the score of every task: give {missing[0]} data.validation or "
                "data.validation_share"
            )
        scores = TaskScores(names, -(-len(train.examples) // size))
    shares = Shares(
        own.sampler,
        tuple(np.diff(train.begins).tolist()),
        own.temperature,
        own.cap,
        tuple(x.share or 0.0 for x in config.tasks),
        epochs,
        scores.of_epoch if scores else None,
    )
    return TaskOrders(train.examples.lengths, size, order_seed(config), shares, own.per_step == "mixed"), scores
