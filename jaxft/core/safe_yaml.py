"""YAML 1.1 for configs, read in bounded time: the length of numbers, nesting and the expansion of aliases are limited."""

import re
from typing import Any

import yaml

LONGEST = 2**19  # characters, which take some seconds
DEEP = 100  # levels of brackets
DIGITS = 300  # digits of a number; a float has at most 309
EXPANDED = 10**6  # values, counting those of an alias each time that it occurs


def load(text: str) -> Any:
    """Load a document; `5e-5` is a number, and a repeated key is an error.

    Raises:
      yaml.YAMLError: for invalid YAML, or a document too large to be a config.
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
        _count_values(node, {})
        return loader.construct_document(node)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deep") from error
    except (ValueError, OverflowError, TypeError, LookupError, AttributeError) as error:  # month 13, or a list as a key
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def has_long_number(text: str) -> bool:
    """Whether a number has more than DIGITS digits."""
    return _LONG_NUMBER.search(text) is not None


def is_deep(text: str) -> bool:
    """Whether brackets are nested in more than DEEP others, which makes a parser slow."""
    if text.count("[") + text.count("{") <= DEEP:
        return False
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth = max(depth, 0) + (1 if bracket in "[{" else -1)
        if depth > DEEP:
            return True
    return False


_LONG_NUMBER = re.compile(rf"(?<![\w.])[-+]?\d[\w.:]{{{DIGITS},}}")


def _count_values(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of values in a node, where an alias counts as all the values that it repeats."""
    if id(node) not in known:
        known[id(node)] = EXPANDED  # the count of a node that contains itself
        children: list[Any] = node.value if isinstance(node, yaml.CollectionNode) else []
        inside = [x for child in children for x in (child if isinstance(child, tuple) else (child,))]
        known[id(node)] = 1 + sum(_count_values(child, known) for child in inside)
    if known[id(node)] > EXPANDED:
        raise yaml.YAMLError(f"more than {EXPANDED:,} values")
    return known[id(node)]


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without two of its pitfalls: `5e-5` is read as text, and a repeated key silently wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        seen = set()
        for key in keys:
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f'key "{key}" occurs twice', node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_EXPONENT = re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789."))


class Dumper(yaml.SafeDumper):
    """Quotes text that `_Loader` would read as a number."""


Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
