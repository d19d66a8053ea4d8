"""Options that are lists of mappings, such as plan.rules: errors that say which element is wrong, and how."""

import dataclasses
import typing
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import yaml

from jaxft.core import safe_yaml
from jaxft.core.errors import UserError, nearest, one_line


def given(name: str, value: Any, arguments: Sequence[str]) -> Any:
    """What a list option has been set to: `value`, or what `--name` gives in its place, with what `--name+` appends.

    It is None if an argument is not valid YAML.
    """
    for argument, following in pairwise([*arguments, ""]):
        option, equals, text = argument.partition("=")
        if option.removesuffix("+") != f"--{name}":
            continue
        try:
            new = safe_yaml.load(text if equals else following)
        except (yaml.YAMLError, RecursionError):
            return None
        if option.endswith("+"):
            value = [*(value if isinstance(value, list) else []), *(new if isinstance(new, list) else [new])]
        else:
            value = new
    return value


def check(name: str, element: type, value: Any, explain: Callable[[str, dict[str, Any]], str]) -> None:
    """Check the elements of a list option.

    Args:
      name: of the option.
      element: the dataclass of its elements.
      value: of the option; only lists are checked.
      explain: rewrites a message of jsonargparse, given the types of the fields that it may name.

    Raises:
      UserError: that names the number of the first element that is wrong, counted from 1.
    """
    for number, item in enumerate(value if isinstance(value, list) else [], 1):
        _check_element(f"{name} {number}", element, item, explain)


def _check_element(where: str, element: type, item: Any, explain: Callable[[str, dict[str, Any]], str]) -> None:
    import jsonargparse

    kinds = typing.get_type_hints(element)
    fields, none = dataclasses.fields(element), dataclasses.MISSING
    required = [x.name for x in fields if x.default is none and x.default_factory is none]
    options = f"{', '.join(required)}, and perhaps {', '.join(x for x in kinds if x not in required)}"
    if not isinstance(item, dict):
        is_name = isinstance(item, str) and ":" not in item
        right = f"such as {{{required[0]}: {item}}}" if is_name else f"with {options}{_space(item)}"
        raise UserError(f"{where} is {'null' if item is None else item}: must be a mapping {right}")
    for key in item:
        if key not in kinds:
            right = nearest(str(key), kinds) or f"; an element has {options}{_space(key)}"
            raise UserError(f'{where}: unknown option "{key}"{right}')
    for key in required:
        if item.get(key) is None:
            raise UserError(f"{where} has no {key}: must be a mapping with {options}")
    parser = jsonargparse.ArgumentParser(exit_on_error=False, default_env=False, parser_mode="value")
    parser.add_class_arguments(element)
    try:
        parser.parse_object(dict(item))
    except (jsonargparse.ArgumentError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where} {explain(one_line(error), kinds)}") from error
    for key, kind in kinds.items():
        if key in item and item[key] is None and type(None) not in typing.get_args(kind):
            message = explain(f'key "{key}" Got value: null', kinds)
            raise UserError(f"{where} {message}")


def _space(text: Any) -> str:
    """What to say of a colon without a space, which YAML reads as part of a word."""
    return ", with a space after each colon" if isinstance(text, str) and ":" in text else ""
