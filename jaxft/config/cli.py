"""Parse command lines and YAML into a `Config`, and turn exceptions into one line and an exit code."""

import argparse
import copy
import dataclasses
import functools
import gc
import itertools
import json
import os
import re
import select
import signal
import sys
import traceback
import typing
from collections.abc import Callable, Collection, Sequence
from typing import Any

import yaml

from jaxft.config import elements, help
from jaxft.config.schema import Config
from jaxft.core import backend, safe_yaml, standard_error, watchdog
from jaxft.core.errors import CallbackError, UserError, nearest, one_line, shortened, shown
from jaxft.core.object_reference import failure_of_own_code
from jaxft.core.paths import check_url
from jaxft.core.signals import Stopped
from jaxft.core.utf8 import read_text


@standard_error.lasting()
def run_main(main: Callable[[list[str]], object], argv: Sequence[str] | None = None) -> typing.NoReturn:
    """Run an entry point and exit: with 0, with 2 and one line for bad input, or with 128 + a signal's number."""
    # Importing JAX makes a million objects that all stay. To look among them for garbage 700 at a time takes 0.4 s.
    gc.set_threshold(200_000, *gc.get_threshold()[1:])
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    if not debug:
        backend.silence_libraries()
    try:
        main([argument for argument in arguments if argument != "--debug"])
        if sys.stdout is not None:
            sys.stdout.flush()
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _output_is_closed():
            sys.exit(128 + signal.SIGPIPE)
        cause = error.__cause__ if isinstance(error, CallbackError) else error
        own = failure_of_own_code(cause) if isinstance(cause, Exception) and not isinstance(cause, UserError) else None
        if debug or not (own or isinstance(error, UserError | OSError | MemoryError | RecursionError)):
            if watchdog.ends_alone():
                traceback.print_exc()
                watchdog.end(1)
            raise
        print(f"error: {shortened(shown(one_line(own[0] if own and cause is error else _message(error))))}", file=sys.stderr)
        if own:
            print(f"{own[1]}--debug shows the whole traceback", file=sys.stderr)
        watchdog.end(error.code if isinstance(error, UserError) else UserError.code)
    except Stopped as stopped:
        print(stopped, file=sys.stderr, flush=True)
        watchdog.end(128 + stopped.number)
    except KeyboardInterrupt as interrupt:  # of a run, it says what is saved; other commands save nothing
        print(str(interrupt) or "stopped", file=sys.stderr)
        watchdog.end(130)
    sys.exit(0)


def _output_is_closed() -> bool:
    """Whether what read standard output, such as `head`, has ended; then it goes nowhere from now on."""
    poll = select.poll()
    poll.register(1, select.POLLOUT)
    if not any(found & select.POLLERR for _, found in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return True


def _message(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}"
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}"
    return "a file or an option is nested too deep" if isinstance(error, RecursionError) else str(error)


def load(argv: Sequence[str], command: help.Command = help.TRAIN) -> Config:
    """Parse `[CONFIG.yaml] [--section.field value ...]` into a checked `Config`; `--help` prints and ends the program.

    Raises:
      UserError: for a missing or malformed file, an unknown name, a wrong type or a value out of range.
    """
    show_help(argv, command)
    files = list(itertools.takewhile(lambda argument: not argument.startswith("-"), argv))
    if len(files) > 1:
        raise UserError(f"give one CONFIG.yaml at most, not {len(files)}: {' '.join(files)}")
    check_url("CONFIG.yaml", files)
    values = read_yaml(files[0]) if files else {}
    return parse(values, argv[len(files) :], origin="".join(files))


def show_help(argv: Sequence[str], command: help.Command) -> None:
    """If the arguments contain `--help [TOPIC]`, print the help and end the program."""
    if (topic := help.topic(argv)) is not None:
        print(help.text(topic, command))
        sys.exit(0)


def parse(values: dict[str, Any], overrides: Sequence[str], *, origin: str) -> Config:
    """Make a checked `Config` of a nested dict and of `--section.field value` arguments, which override it."""
    import jsonargparse

    where = in_file = f"{origin}: " if origin else ""
    known = field_names()
    _refuse_unknown_keys(values, known, in_file)
    values = {key: value for key, value in values.items() if value is not None or key in known}
    values = copy.deepcopy(values)  # jsonargparse puts objects of its own in the place of elements of lists
    _refuse_unknown_options(overrides, [f"--{name}" for name in known])
    for argument in overrides:
        if safe_yaml.has_long_number(argument):
            raise UserError(f"{argument}: a number of more than {safe_yaml.DIGITS} digits")
    parser, flat = _parser(), flatten(values)
    for name, kind in known.items():
        if element := help.element_of(kind):
            value = elements.given(name, flat.get(name), overrides)
            elements.check(f"{in_file if value is flat.get(name) else ''}{name}", element, value, _explain)
    try:
        given = parser.parse_object(values) if values else None
        where = ""  # what the file says is right
        made = parser.instantiate(parser.parse_args(list(overrides), namespace=given))
    except RecursionError as error:
        raise UserError(f"{where}an option is nested too deep") from error
    except (jsonargparse.ArgumentError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}{_explain(one_line(error), known)}") from error
    config = Config(**{f.name: getattr(made, f.name) for f in dataclasses.fields(Config)})
    for name, value in flatten(as_dict(config)).items():
        if value is None and type(None) not in typing.get_args(kind := known[name]):
            where = in_file if flat.get(name, "") is None else ""
            raise UserError(f"{where}{name} is null: must be {_wanted(kind)}")
    config.validate()
    return config


@functools.cache
def _parser() -> Any:
    """The parser of a `Config`; to make it takes a tenth of a second."""
    import jsonargparse

    plain = jsonargparse.get_loader("yaml")

    def load_value(text: str) -> Any:
        # A column may have the name "#2 String", which YAML would read as a comment.
        return text if text.lstrip().startswith("#") or safe_yaml.is_deep(text) else plain(text)

    jsonargparse.set_loader("value", load_value, exceptions=(yaml.YAMLError,))
    parser = jsonargparse.ArgumentParser(exit_on_error=False, default_env=False, parser_mode="value")
    parser.add_class_arguments(Config, as_group=True)
    return parser


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a YAML file into a nested dict; `5e-5` is a number, and a repeated key is an error."""
    text = read_text(path)
    try:
        values = safe_yaml.load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {one_line(error)}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: a config is a mapping of sections such as `data: {{train: train.csv}}`")
    return values


def dump(config: Config) -> str:
    """Write the resolved config as YAML that `load` accepts."""
    return yaml.dump(as_dict(config), Dumper=safe_yaml.Dumper, sort_keys=False, allow_unicode=True)


def as_dict(config: Config) -> dict[str, Any]:
    """Convert a config into nested dicts."""
    return dataclasses.asdict(config)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Convert `{"data": {"train": x}}` into `{"data.train": x}`; the value of an option stays as it is, also a mapping."""
    options = field_names()
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and f"{prefix}{key}" not in options:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def argument(name: str, value: Any) -> str:
    """Write an option as an argument, `--data.text=sentence`, quoted if YAML would read the text as another type."""
    plain = isinstance(value, str) and value != "" and safe_yaml.load(value) == value
    return f"--{name}={value if plain else json.dumps(value)}"


@functools.cache
def field_names(section: Any = Config, prefix: str = "") -> dict[str, Any]:
    """The dotted names of all options of a section, with their types."""
    names: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(section).items():
        names |= field_names(kind, f"{prefix}{name}.") if dataclasses.is_dataclass(kind) else {prefix + name: kind}
    return names


class Parser(argparse.ArgumentParser):
    """An `argparse` parser that raises `UserError`, and suggests the nearest option for an unknown one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def parse_args(self, args: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]
        """Parse the arguments, and refuse unknown options first."""
        _refuse_unknown_options(args, self._option_string_actions)
        return super().parse_args(args)

    def parse_beside_config(self, args: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Parse a command that also takes `--section.field value`: (its own options, the arguments left for `parse`)."""
        _refuse_unknown_options(args, [*self._option_string_actions, *(f"--{name}" for name in field_names())])
        return super().parse_known_args(args)

    def error(self, message: str) -> typing.NoReturn:
        """Raise the message that argparse would print."""
        raise UserError(f"{message}; {self.prog} --help shows the options")


def _refuse_unknown_keys(values: dict[str, Any], known: dict[str, Any], where: str) -> None:
    sections = {name.split(".")[0] for name in known if "." in name}
    for key, value in values.items():
        if key in sections and value is not None and not isinstance(value, dict):
            raise UserError(f"{where}{key} is a section, such as `{key}: {{...}}`, but got {value!r}")
        if key not in sections and key not in known:
            raise UserError(f'{where}unknown option "{key}"{nearest(str(key), [*sections, *known])}')
    for name in flatten({k: v for k, v in values.items() if k in sections and v}):
        if name not in known:
            raise UserError(f'{where}unknown option "{name}"{nearest(name, known)}')


def _refuse_unknown_options(arguments: Sequence[str], known: Collection[str]) -> None:
    for argument in arguments:
        name = argument.partition("=")[0].removesuffix("+")  # --plan.rules+ appends to a list
        if name.startswith("--") and name not in known:
            if own := [x for x in known if x.startswith(f"{name}.")]:
                raise UserError(f'"{name}" is a section: give one of its options, such as {own[0]}')
            raise UserError(f'unknown option "{name}"{nearest(name, known)}')


def _explain(message: str, known: dict[str, Any]) -> str:
    """Rewrite a message of jsonargparse about a value in terms of the option, whose type is in `known`."""
    name = re.search(r'key "([\w.]+)"', message)
    kind = known.get(name[1]) if name else None
    if name is None or kind is None:
        return message
    value = re.search(r".*(?:Got|Given) value: (.*?)(?: Subclass types|$)", message)
    given = value[1] if value else "not valid"
    given = given if len(given) <= 120 else f"{given[:100]} ..."  # a whole section or list where the option has another form
    return f"{name[1]} is {'null' if given == 'None' else given}: must be {_wanted(kind)}"


_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
    bool: "true or false",
    type(None): "null",
    list[int]: "a list of whole numbers, such as [1, 2]",
    list[float]: "a list of numbers, such as [0.5, 2]",
    list[list[int]]: "a list of lists of whole numbers, such as [[0, 0], [1, 2]]",
    list[str]: 'a list of texts in quotes, such as ["a", "b"]',
}


def _wanted(kind: Any) -> str:
    """Describe the type of a field in words."""
    if kind in _WORDS:
        return _WORDS[kind]
    if element := help.element_of(kind):
        return f"a list of mappings with {', '.join(f.name for f in dataclasses.fields(element))}"
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return f"{'one of ' if len(arguments) > 1 else ''}{', '.join(arguments)}"
    if typing.get_origin(kind) is dict:
        return "a mapping, such as {a: 1}"
    if typing.get_origin(kind) is list and typing.get_origin(arguments[0]) is typing.Literal:
        names = typing.get_args(arguments[0])
        return f"a list, such as [{names[0]}], of {', '.join(names)}"
    if list[arguments[0]] in arguments:
        return f"{_wanted(arguments[0])}, or a list of them"
    return " or ".join(_wanted(a) for a in arguments)
