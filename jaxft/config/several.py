"""The list `tasks` and the section `sampling`: several tasks in one run, which share an encoder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from jaxft.config.limits import (
    FinitePositiveFloat,
    Limit,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Section,
    require,
    shown,
)
from jaxft.core.errors import UserError

Sampler = Literal["proportional", "temperature", "annealed", "round_robin", "shares", "validation"]
NAME = Limit(
    "letters, digits, _ and -, beginning with a letter or digit",
    lambda x: bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", x)),
)
# Other things in the same places have these names: scores, heads, outputs that a step adds up (`step.train_step.METRICS`),
# and modules of adapters.
TAKEN = ("main", "loss", "score", "task", "encoder", "domains", "metrics", "means", "adapter")


@dataclass(frozen=True)
class NamedTaskConfig(Section):
    """One of several tasks."""

    name: Annotated[str, NAME]
    """Name of the task: of its head (heads.NAME in a plan), its scores (NAME/accuracy) and its model (model/NAME)."""
    task: dict[str, Any] = field(default_factory=dict)
    """Options of the section `task` in which it differs from that of the run."""
    data: dict[str, Any] = field(default_factory=dict)
    """Options of the section `data` in which it differs from that of the run."""
    weight: NonNegativeFloat = 1.0
    """What its mean loss is multiplied by in the sum of all tasks."""
    share: FinitePositiveFloat | None = None
    """Sampler shares: its part of the examples, relative to those of the other tasks."""

    def check(self, prefix: str) -> None:
        """A name of its own."""
        require(self.name not in TAKEN, f"{prefix}name", self.name, f"another one than {', '.join(TAKEN)}")


@dataclass(frozen=True)
class SamplingConfig(Section):
    """How often a run of several tasks uses the examples of each."""

    sampler: Sampler = "proportional"
    """Share of each task: proportional to its n examples; temperature, to min(n, cap)^(1 / temperature); annealed, to n^a,
    where a falls from 1 in the first epoch to 0.2 in the last; round_robin, equal; shares, as tasks say; validation, to
    1 minus the score of the task in an earlier evaluation."""
    temperature: PositiveFloat = 2.0
    """Temperature of the sampler temperature; 1 is proportional, and a high one makes all shares equal."""
    cap: PositiveInt | None = None
    """Sampler temperature: number of examples above which a task counts as no larger; null sets none."""
    per_step: Literal["mixed", "one"] = "mixed"
    """What a step holds: mixed packs examples of all tasks, always the same number of each; one takes those of one task."""

    def check(self, prefix: str) -> None:
        """No option that the sampler does not have."""
        plain = SamplingConfig()
        for name in ("temperature", "cap"):
            value = getattr(self, name)
            if self.sampler != "temperature" and value != getattr(plain, name):
                raise UserError(
                    f"{prefix}{name} is {shown(value)}, but {prefix}sampler is {self.sampler}: only temperature has it"
                )


def check_tasks(tasks: Sequence[NamedTaskConfig], sampling: SamplingConfig) -> None:
    """Check a list of tasks, and that the sampling fits them.

    Raises:
      UserError: for a single task, two with one name, or a share where there must be none.
    """
    for number, task in enumerate(tasks, 1):
        task.validate(f"tasks {number} ")
    if not tasks:
        if sampling != SamplingConfig():
            raise UserError("sampling says how often each of several tasks is used, but there are no tasks: leave it out")
        return
    if len(tasks) == 1:
        raise UserError(f"tasks has one task, {tasks[0].name}: give two or more, or use the sections task and data alone")
    numbers: dict[str, int] = {}
    for number, task in enumerate(tasks, 1):
        # Folders of models would be one on file systems that do not tell capitals from small letters.
        if (before := numbers.setdefault(task.name.lower(), number)) != number:
            raise UserError(f"tasks {number} name is {task.name}, which tasks {before} has, too: give each its own name")
        if (task.share is None) == (sampling.sampler == "shares"):
            if task.share is None:
                raise UserError(f"tasks {number} share is null: sampling.sampler shares needs the share of every task")
            raise UserError(
                f"tasks {number} share is {task.share:g}, but sampling.sampler is {sampling.sampler}: only shares has it"
            )
    if not any(task.weight for task in tasks):
        raise UserError("tasks: every weight is 0: raise one, or nothing is trained")
