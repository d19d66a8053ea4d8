"""What `--help` shows: one screen, or with a topic (`--help optim`) the options of a section; read from the schema."""

import ast
import dataclasses
import inspect
import itertools
import re
import shutil
import textwrap
import typing
from collections.abc import Sequence
from typing import Any

from jaxft.config.plan import RuleConfig
from jaxft.config.schema import Config
from jaxft.config.task import honoured_by
from jaxft.core.errors import UserError, nearest

ALL = "all"
COMMON = (
    *("output_dir", "model.path", "task.name", "data.train", "data.validation", "data.test", "data.text", "data.label"),
    *("data.max_length", "plan.preset", "optim.learning_rate", "train.epochs", "train.batch_size", "train.dtype"),
    *("eval.every", "eval.metric", "seed"),
)
FLAGS = ("-h", "--help")
INDENT = 36  # column at which descriptions begin


@dataclasses.dataclass(frozen=True)
class Option:
    """An option by its dotted name: default and values as YAML has them, and the text under its field."""

    name: str
    default: str
    values: tuple[str, ...]
    doc: str


def topic(argv: Sequence[str]) -> str | None:
    """What help is asked for: the argument after `--help`, or the empty string; None where none is."""
    for place, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name in FLAGS:
            after = next(iter(argv[place + 1 :]), "")
            return value if equals else "" if after.startswith("-") else after
    return None


def text(wanted: str, usage: str) -> str:
    """Help on a topic: a section, part of one or an option; the empty string is the overview.

    Raises:
      UserError: for a topic that there is not.
    """
    wanted = wanted.removeprefix("--")
    shown = _everything() if wanted == ALL else _about(wanted) if wanted else _overview()
    return "\n".join([f"usage: {usage}", "", *shown])


def options() -> list[Option]:
    """Every option, in the order of the schema."""
    return list(_options(Config, ""))


def _overview() -> list[str]:
    known = {option.name: option for option in options()}
    lines = ["commonest options (and their defaults):", *(_line(known[name]) for name in COMMON), "", "sections:"]
    sections = {f.name: f.type for f in dataclasses.fields(Config) if dataclasses.is_dataclass(f.type)}
    lines += [_cut(f"  {name:<{INDENT - 2}}{_first(kind.__doc__ or '')}") for name, kind in sections.items()]
    return [*lines, "", f"--help SECTION lists a section's options, --help {ALL} every one"]


def _everything() -> list[str]:
    """Every option, under the headings of the sections."""
    sections = {name: kind.__doc__ or "" for name, kind in typing.get_type_hints(Config).items()}
    lines, heading = [], ""
    for option in _rules_and_options():
        section = re.split(r"[.:]", option.name)[0] if "." in option.name else ""
        if section != heading:
            lines += ["", f"{section}: {sections[section]}"]
            heading = section
        lines += _entry(option)
    return lines


def _about(wanted: str) -> list[str]:
    chosen = [o for o in _rules_and_options() if o.name == wanted or o.name.startswith((f"{wanted}.", f"{wanted}: "))]
    if not chosen:
        parts = [name.rpartition(".")[0] for name in (o.name for o in options()) if "." in name]
        names = [*dict.fromkeys(parts), *(o.name for o in options())]
        raise UserError(f'--help: no section or option "{wanted}"{nearest(wanted, names)}')
    return [line for option in chosen for line in _entry(option)]


def _rules_and_options() -> typing.Iterator[Option]:
    """Every option, and after `plan.rules` the fields of a rule."""
    for option in options():
        yield option
        if option.name == "plan.rules":
            yield from (dataclasses.replace(o, name=f"plan.rules: {o.name}") for o in _options(RuleConfig, ""))


def _options(section: Any, prefix: str) -> typing.Iterator[Option]:
    docs, kinds = _docs(section), typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        kind: Any = kinds[field.name]
        if dataclasses.is_dataclass(kind):
            yield from _options(kind, f"{prefix}{field.name}.")
            continue
        default = "" if field.default is dataclasses.MISSING else _yaml(field.default)
        if field.default_factory is not dataclasses.MISSING:
            default = _yaml(field.default_factory())
        tasks = honoured_by(field.type)
        doc = f"{docs[field.name]} For {tasks}." if tasks else docs[field.name]
        yield Option(prefix + field.name, default, tuple(_values(kind)), doc)


def _docs(section: Any) -> dict[str, str]:
    """The text under each field."""
    (node,) = ast.parse(inspect.getsource(section)).body
    found: dict[str, str] = {}
    body = typing.cast("ast.ClassDef", node).body
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            found[ast.unparse(field.target)] = " ".join(str(ast.literal_eval(below.value)).split())
    return found


def _values(kind: Any) -> typing.Iterator[str]:
    """The words that a type allows."""
    if typing.get_origin(kind) is typing.Literal:
        yield from typing.get_args(kind)
    elif typing.get_origin(kind) is not list:
        for part in typing.get_args(kind):
            yield from _values(part)


def _yaml(value: Any) -> str:
    """A default as YAML has it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _entry(option: Option) -> list[str]:
    """An option with the whole of its text, in as many lines as that takes."""
    head = f"  {_head(option)}"
    doc = option.doc
    if option.values and any(value not in doc for value in option.values):
        doc = f"{doc} One of {', '.join(option.values)}."
    lines = textwrap.wrap(doc, max(20, _width() - INDENT), break_on_hyphens=False)
    fits = len(head) < INDENT
    first = [f"{head:<{INDENT}}{lines.pop(0)}"] if fits else [head]
    return [*first, *(" " * INDENT + line for line in lines)]


def _line(option: Option) -> str:
    return _cut(f"  {_head(option):<{INDENT - 2}}{_first(option.doc)}")


def _head(option: Option) -> str:
    name = option.name if ":" in option.name else f"--{option.name}"
    return f"{name} ({option.default})" if option.default else name


def _first(doc: str) -> str:
    """A text up to its first full stop or semicolon."""
    return re.split(r"; |\. |\.?\n|\.$", doc, maxsplit=1)[0]


def _cut(line: str) -> str:
    return line if len(line) <= _width() else line[: _width() - 3].rstrip() + "..."


def _width() -> int:
    return min(120, shutil.get_terminal_size((100, 24)).columns)
