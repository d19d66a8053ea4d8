"""YAML 1.1 as configs have it, and what of it is read in bounded time: no number, nesting or repetition without an end."""

import re
from typing import Any

import yaml

LONGEST = 2**19  # characters, which take some seconds
DEEP = 100  # brackets inside brackets
DIGITS = 300  # of a number; more are no float
EXPANDED = 10**6  # values, when those that are named once and meant many times are counted each time


def load(text: str) -> Any:
    """A document; `5e-5` is a number, and a key given twice is an error.

    Raises:
      yaml.YAMLError: for what is none, or too large to be a config.
    """
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"{len(text):,} characters, more than {LONGEST:,}")
    if has_long_number(text):
        raise yaml.YAMLError(f"a number of more than {DIGITS} digits")
    if is_deep(text):
        raise yaml.YAMLError(f"brackets inside more than {DEEP} brackets")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _expanded(node, {})
        return loader.construct_document(node)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deep") from error
    except (ValueError, OverflowError, TypeError, LookupError, AttributeError) as error:  # of a month 13, or a list as a key
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def has_long_number(text: str) -> bool:
    """Whether a number has more than DIGITS digits."""
    return _LONG_NUMBER.search(text) is not None


def is_deep(text: str) -> bool:
    """Whether brackets stand inside more than DEEP others, which takes a parser long."""
    if text.count("[") + text.count("{") <= DEEP:
        return False
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth = max(depth, 0) + (1 if bracket in "[{" else -1)
        if depth > DEEP:
            return True
    return False


_LONG_NUMBER = re.compile(rf"(?<![\w.])[-+]?\d[\w.:]{{{DIGITS},}}")


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, where an alias stands for all that it repeats."""
    if id(node) not in known:
        known[id(node)] = EXPANDED  # of one that holds itself
        children: list[Any] = node.value if isinstance(node, yaml.CollectionNode) else []
        inside = [x for child in children for x in (child if isinstance(child, tuple) else (child,))]
        known[id(node)] = 1 + sum(_expanded(child, known) for child in inside)
    if known[id(node)] > EXPANDED:
        raise yaml.YAMLError(f"more than {EXPANDED:,} values")
    return known[id(node)]


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without two of its traps: `5e-5` read as text, and a repeated key that silently wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        seen = set()
        for key in keys:
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f'key "{key}" stands twice', node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


class Dumper(yaml.SafeDumper):
    """Puts quotes around the text that `_Loader` would read as a number."""


Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
