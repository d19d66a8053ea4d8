"""Durations: a number of steps (500), or text ("500 steps", "1 epoch", "0.5 epochs", "end"); of some also "10 minutes"."""

import sys
from typing import Annotated

from jaxft.config.limits import MOST, require
from jaxft.core.errors import UserError

_SECONDS = {"minute": 60.0, "hour": 3600.0}


def duration_steps(value: int | str, steps_per_epoch: int, name: str) -> int:
    """Convert a duration into a number of steps, at least 1, or raise a UserError; `end` is more steps than any run has."""
    if value == "end":
        return sys.maxsize
    number, _, unit = str(value).strip().partition(" ")
    try:
        amount = float(number)
    except ValueError:
        amount = -1.0
    unit = unit.strip().removesuffix("s") or "step"
    if not 0 < amount < float("inf") or unit not in ("step", "epoch") or (unit == "step" and amount != int(amount)):
        raise UserError(f'{name} is "{value}": give steps (500) or text such as "500 steps", "0.5 epochs" or "end"')
    return max(1, round(min(amount * steps_per_epoch, MOST))) if unit == "epoch" else int(amount)


def duration_seconds(value: int | str) -> float | None:
    """The seconds of a duration in minutes or hours; None for any other."""
    number, _, unit = str(value).strip().partition(" ")
    seconds = _SECONDS.get(unit.strip().removesuffix("s"))
    try:
        amount = float(number) if seconds else 0.0
    except ValueError:
        return None
    return amount * seconds if seconds and 0 < amount < float("inf") else None


def unfreeze_step(value: int | str, steps_per_epoch: int, name: str) -> int:
    """Convert a duration in which 0 means from the start."""
    return 0 if value in (0, "0") else duration_steps(value, steps_per_epoch, name)


def _check(name: str, value: int | str) -> None:
    duration_steps(value, 1, name)


def _check_or_time(name: str, value: int | str) -> None:
    if duration_seconds(value) is None:
        try:
            duration_steps(value, 1, name)
        except UserError as error:
            raise UserError(str(error).replace('"0.5 epochs"', '"0.5 epochs", "10 minutes"')) from None


def _check_stage(name: str, value: int | str) -> None:
    require(value != "end", name, value, "steps (500) or text such as 0.5 epochs")
    duration_steps(value, 1, name)


def _check_unfreeze(name: str, value: int | str) -> None:
    if value not in (0, "0"):
        _check_stage(name, value)


Duration = Annotated[int | str, _check]
DurationOrTime = Annotated[int | str, _check_or_time]
StageDuration = Annotated[int | str, _check_stage]
UnfreezeTime = Annotated[int | str, _check_unfreeze]
