"""Help, read from the schema: one screen, or with a topic (`--help optim`) the options of a section."""

import ast
import dataclasses
import inspect
import itertools
import re
import shutil
import textwrap
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jaxft.config.schema import Config
from jaxft.config.task import For
from jaxft.config.used_by import TRAIN_ONLY, UsedBy, mark_of
from jaxft.core.errors import UserError, nearest

ALL = "all"
COMMON = (
    *("output_dir", "model.path", "task.name", "data.train", "data.validation", "data.test", "data.text", "data.label"),
    *("data.validation_share", "data.max_length", "plan.preset", "optim.learning_rate", "train.epochs", "train.max_steps"),
    *("train.batch_size", "seed"),
)
FLAGS = ("-h", "--help")
INDENT = 36  # column at which descriptions begin


@dataclasses.dataclass(frozen=True)
class Option:
    """An option: its dotted name, default and possible values as YAML, the text under its field, and who uses it.

    `element` is the class of the mappings of an option that is a list of them.
    """

    name: str
    default: str
    values: tuple[str, ...]
    doc: str
    used_by: UsedBy
    element: type | None = None


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that takes options of the config.

    Attributes:
      arguments: its first arguments.
      own: its own options, which no config has, and what they do.
      common: options of the config on the first screen of its help.
      uses: the mark of the options that its help lists.
      note: the last line of its help.
    """

    name: str
    arguments: str
    own: Mapping[str, str] = dataclasses.field(default_factory=dict)
    common: tuple[str, ...] = COMMON
    uses: UsedBy = TRAIN_ONLY
    note: str = ""

    def among(self, options: Iterable[Option]) -> list[Option]:
        """The options that change what the command does."""
        return [option for option in options if self.uses in option.used_by]


TRAIN = Command("jaxft train", "[CONFIG.yaml]")


def topic(argv: Sequence[str]) -> str | None:
    """The topic after `--help`, the empty string if there is none, or None without `--help`."""
    for i, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name in FLAGS:
            after = next(iter(argv[i + 1 :]), "")
            return value if equals else "" if after.startswith("-") else after
    return None


def text(wanted: str, command: Command = TRAIN) -> str:
    """Write the help on a topic: a section, a part of one, an option or `all`; the empty string gives the overview.

    Raises:
      UserError: for an unknown topic, or one that the command ignores.
    """
    wanted = wanted.removeprefix("--")
    shown = _everything(command) if wanted == ALL else _about(wanted, command) if wanted else _overview(command)
    usage = f"usage: {command.name} {command.arguments} [--section.field value ...] [--debug]"
    return "\n".join([usage, "", *shown])


def options() -> list[Option]:
    """All options in the order of the schema."""
    return list(_options(Config, ""))


def _overview(command: Command) -> list[str]:
    known = {option.name: option for option in command.among(options())}
    lines = [*_own(command), "most common options (and their defaults):"]
    for option in (known[name] for name in command.common if name in known):
        lines += _columns(_head(option), _first(option.doc))
    lines += ["", "sections:"]
    for name, kind in typing.get_type_hints(Config).items():
        if any(option.startswith(f"{name}.") for option in known):
            lines += _columns(name, _first(kind.__doc__ or ""))
    return [*lines, "", f"--help SECTION lists the options of a section, --help {ALL} lists all options", *_note(command)]


def _own(command: Command) -> list[str]:
    """The options that only this command has."""
    lines = [line for name, doc in command.own.items() for line in _columns(name, doc)]
    return [f"options of {command.name}:", *lines, ""] if lines else []


def _note(command: Command) -> list[str]:
    return textwrap.wrap(command.note, _width())


def _everything(command: Command) -> list[str]:
    """All options that the command uses, under the headings of their sections."""
    sections, lines = typing.get_type_hints(Config), _own(command)
    for section, group in itertools.groupby(command.among(_options_and_rules()), _section):
        lines += ["", f"{section}: {sections[section].__doc__}"] if section else []
        lines += [line for option in group for line in _entry(option)]
    return [*lines, *([""] if command.note else []), *_note(command)]


def _section(option: Option) -> str:
    return option.name.partition(".")[0] if "." in option.name else ""


def _about(wanted: str, command: Command) -> list[str]:
    """The entries of an option, or of all options of a section."""
    chosen = [o for o in _options_and_rules() if o.name == wanted or o.name.startswith((f"{wanted}.", f"{wanted}:"))]
    if not chosen:
        names = [o.name for o in options()]
        sections = dict.fromkeys(name.rpartition(".")[0] for name in names if "." in name)
        raise UserError(f'--help: no section or option "{wanted}"{nearest(wanted, [*sections, *names])}')
    if not (used := command.among(chosen)):
        raise UserError(f"--help: {command.name} ignores {wanted}; {TRAIN.name} --help {wanted} describes it")
    return [line for option in used for line in _entry(option)]


def _options_and_rules() -> Iterator[Option]:
    """All options; after a list of mappings, such as `plan.rules`, the fields of a mapping."""
    for option in options():
        yield option
        if option.element:
            for field in _options(option.element, ""):
                yield dataclasses.replace(field, name=f"{option.name}: {field.name}", used_by=option.used_by)


def _options(section: Any, prefix: str) -> Iterator[Option]:
    docs, kinds = _docs(section), typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        kind: Any = kinds[field.name]
        if dataclasses.is_dataclass(kind):
            yield from _options(kind, f"{prefix}{field.name}.")
            continue
        default = "" if field.default is dataclasses.MISSING else _yaml(field.default)
        if field.default_factory is not dataclasses.MISSING:
            default = _yaml(field.default_factory())
        tasks = mark_of(field.type, For, None)
        doc = f"{docs[field.name]} For {tasks}." if tasks else docs[field.name]
        used_by = mark_of(field.type, UsedBy, section.used_by)
        yield Option(prefix + field.name, default, tuple(_values(kind)), doc, used_by, element_of(kind))


def element_of(kind: Any) -> type | None:
    """The class of the mappings of an option's type that is a list of them; None for other types."""
    inner = typing.get_args(kind)[0] if typing.get_origin(kind) is list else None
    return inner if dataclasses.is_dataclass(inner) and isinstance(inner, type) else None


def _docs(section: Any) -> dict[str, str]:
    """The texts under the fields of a section, by name."""
    node = typing.cast("ast.ClassDef", ast.parse(inspect.getsource(section)).body[0])
    found: dict[str, str] = {}
    for field, below in itertools.pairwise(node.body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            found[ast.unparse(field.target)] = " ".join(str(ast.literal_eval(below.value)).split())
    return found


def _values(kind: Any) -> Iterator[str]:
    """The words that a type allows, from its Literals."""
    if typing.get_origin(kind) is typing.Literal:
        yield from typing.get_args(kind)
    elif typing.get_origin(kind) is not list:
        for part in typing.get_args(kind):
            yield from _values(part)


def _yaml(value: Any) -> str:
    """Write a default as YAML."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _entry(option: Option) -> list[str]:
    """The lines of an option with its full text."""
    doc = option.doc
    if option.values and any(value not in doc for value in option.values):
        doc = f"{doc} One of {', '.join(option.values)}."
    return _columns(_head(option), doc)


def _columns(head: str, doc: str) -> list[str]:
    """A name and its text beside it, in as many lines as the text takes."""
    head = f"  {head}"
    lines = textwrap.wrap(doc, max(20, _width() - INDENT), break_on_hyphens=False)
    first = [f"{head:<{INDENT}}{lines.pop(0)}"] if len(head) < INDENT else [head]
    return [*first, *(" " * INDENT + line for line in lines)]


def _head(option: Option) -> str:
    name = option.name if ":" in option.name else f"--{option.name}"
    return f"{name} ({option.default})" if option.default else name


def _first(doc: str) -> str:
    """The beginning of a text, up to its first full stop or semicolon."""
    return re.split(r"; |\. |\.?\n|\.$", doc, maxsplit=1)[0]


def _width() -> int:
    return min(120, shutil.get_terminal_size((100, 24)).columns)
