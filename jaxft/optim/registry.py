"""Looks up an optimizer by `optim.name` and `optim.arguments`: a named one, or any optimizer of optax."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxft.config import OptimConfig
from jaxft.core.errors import UserError, nearest, one_line
from jaxft.core.object_reference import is_reference, load_object
from jaxft.optim.named_optimizers import NAMED, Decay
from jaxft.optim.per_layer import unstacked

PREFIX = "optax."
_FIELDS = ("beta1", "beta2", "epsilon")  # arguments that are separate options, such as optim.beta1
# set by other options of optim and plan
_RESERVED = {"learning_rate", "weight_decay", "weight_decay_rate", "weight_decay_mask", "mask"}


def make_transformation(config: OptimConfig, decay: Decay) -> optax.GradientTransformation:
    """The optimizer's transformation, without learning rate and schedule; the result is to be subtracted.

    Raises:
      UserError: for a name or an argument that does not exist, or an optimizer that needs more than gradients.
    """
    if config.name.startswith(PREFIX) or is_reference(config.name):
        make = load_object(config.name, "optim.name") if is_reference(config.name) else _optax_function(config)
        return optax.chain(unstacked(_made(config, make)), optax.stateless(decay))
    if config.name not in NAMED:
        known = [*NAMED, *(PREFIX + name for name in _optax_names())]
        raise UserError(
            f'optim.name is "{config.name}": must be one of {", ".join(NAMED)}, {PREFIX}NAME or module:function of your own'
            f"{nearest(config.name, known)}"
        )
    make = NAMED[config.name]
    known = {name: x for name, x in inspect.signature(make).parameters.items() if x.kind is x.KEYWORD_ONLY}
    values = dict(config.arguments)
    for name in _FIELDS:
        if name in values:
            raise UserError(f"optim.arguments: {name} is a separate option, optim.{name}")
        if (value := getattr(config, name)) is not None:
            if name not in known:
                raise UserError(f"optim.{name} is {value} but {config.name} has none: leave it null")
            values[name] = value
    _refuse_unknown(config, [name for name in known if name not in _FIELDS])
    for name, value in values.items():
        _check_type(f"{config.name}: optim.arguments {name}", value, known[name].annotation)
    return make(decay, **values)


def check_optimizer(config: OptimConfig) -> None:
    """Reports the errors of `make_transformation` before any work is done."""
    make_transformation(config, lambda updates, _: updates)


def _optax_function(config: OptimConfig) -> Callable[..., Any]:
    """The optimizer of optax or optax.contrib that `optim.name` names."""
    names, name = _optax_names(), config.name.removeprefix(PREFIX)
    if name not in names:
        raise UserError(f'optim.name is "{config.name}": optax has no such optimizer{nearest(name, names)}')
    return names[name]


def _made(config: OptimConfig, make: Callable[..., Any]) -> optax.GradientTransformation:
    """An optimizer of optax, or of the user's, at learning rate 1 without weight decay; the result is to be subtracted.

    A function with the argument learning_rate gives an update to add, as optax's optimizers do, and another one a direction
    to subtract, as optax's scale_by_... do.
    """
    if not callable(make):
        raise UserError(f"optim.name {config.name}: is not a function that makes an optimizer")
    for field in _FIELDS:
        if (value := getattr(config, field)) is not None:
            raise UserError(f"optim.{field} is {value}: give {config.name} its own names in optim.arguments")
    parameters = inspect.signature(make).parameters
    _refuse_unknown(config, [x for x in parameters if x not in _RESERVED])
    fixed = {"learning_rate": 1.0, "weight_decay": 0.0}
    try:
        optimizer = make(**{k: x for k, x in fixed.items() if k in parameters}, **config.arguments)
        optimizer = optax.with_extra_args_support(optimizer)
        sample = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
        jax.eval_shape(lambda x: optimizer.update(x, optimizer.init(x), x), sample)
    except Exception as error:  # the user's arguments may raise anything in optax
        raise UserError(
            f"optim.name {config.name} with optim.arguments {config.arguments} does not work on gradients alone: "
            f"{one_line(error)[:200]}"
        ) from error
    return optax.chain(optimizer, optax.scale(-1.0)) if "learning_rate" in parameters else optimizer


def _optax_names() -> Mapping[str, Callable[..., Any]]:
    """The optimizers of optax: functions of a learning rate, except schedule-free ones, which evaluate other parameters."""
    optimizers = {}
    for module in (optax.contrib, optax):
        for name, x in vars(module).items():
            hidden = name.startswith(("_", "scale_by", "schedule_free")) or not isinstance(x, FunctionType | partial)
            if not hidden and "learning_rate" in inspect.signature(x).parameters:
                optimizers[name] = x
    return optimizers


def _refuse_unknown(config: OptimConfig, known: list[str]) -> None:
    for name in config.arguments:
        if name in _RESERVED:
            raise UserError(f"optim.arguments: {name} is decided by optim.learning_rate, optim.weight_decay and plan")
        if name not in known:
            has = ", ".join(known) or "none"
            raise UserError(f'optim.arguments: {config.name} has no argument "{name}"{nearest(name, known)}; it has {has}')


def _check_type(where: str, value: Any, kind: type) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (isinstance(value, bool) if kind is bool else number and abs(value) < float("inf")):
        raise UserError(f"{where} is {value}: must be {'true or false' if kind is bool else 'a finite number'}")
