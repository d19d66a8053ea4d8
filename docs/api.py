"""Write docs/api.md, the reference of the public names, from signatures and docstrings: python docs/api.py."""

import ast
import logging
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).resolve().parents[1]
PAGE, LOOP = ROOT / "docs/api.md", ROOT / "docs/own_loop.md"
WIDTH = 100  # characters of a signature on one line

INTRODUCTION = """\
# Reference of the public names

`python docs/api.py` writes this page from the docstrings. [python.md](python.md), [pipelines.md](pipelines.md) and
[own_loop.md](own_loop.md) show how the names are used together; `jaxft train --help all` describes the options of a config.

Shapes are in brackets: B texts, R rows of a batch, K micro-batches, T tokens, M examples in a row, N examples, C classes;
D is the size of hidden states.
"""
PIPELINES = [
    "jaxft.pipelines.base.Pipeline",
    *(
        f"jaxft.pipelines.{module}.{''.join(word.title() for word in module.split('_'))}Pipeline"
        for module in (
            *("text_classification", "token_classification", "question_answering", "fill_mask"),
            *("multiple_choice", "feature_extraction"),
        )
    ),
]
# Title, text below it, and the names of a section; None stands for the names that docs/own_loop.md imports.
SECTIONS: list[tuple[str, str, list[str] | None]] = [
    ("A run", "", ["jaxft.Trainer"]),
    ("Pipelines", "", ["jaxft.pipeline", *PIPELINES]),
    (
        "Callbacks",
        "",
        [
            *("jaxft.Callback", "jaxft.training.running.RunningRun"),
            *(f"jaxft.training.callbacks.{name}" for name in ("Step", "Evaluation", "Checkpoint", "End")),
        ],
    ),
    ("Models", "", [*(f"jaxft.{name}" for name in ("load", "forward", "merge", "save")), "jaxft.models.model.Model"]),
    ("Losses", "", ["jaxft.losses"]),
    ("Steps of augmentation", "", ["jaxft.data.augmentation.document.Document"]),
    ("Tasks", "", ["jaxft.tasks.task.Task", "jaxft.tasks.task.Split", "jaxft.data.batching.collect.Summary"]),
    (
        "A loop of your own",
        "The names that the loop of [own_loop.md](own_loop.md) imports, and what they take and return.",
        None,
    ),
    ("Errors", "", ["jaxft.core.errors.UserError"]),
]
VALUES = [  # that these names return
    *("jaxft.run.setup.Run", "jaxft.step.train_step.TrainState", "jaxft.step.parameters.Parameters"),
    *("jaxft.optim.optimizer.Optimizer", "jaxft.data.batching.prefetch.Epoch", "jaxft.core.tree.unstack"),
]
# The methods that are shown of some classes; of all others they are all public ones.
METHODS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(PIPELINES, ()),
    PIPELINES[0]: ("__call__", "warm_up"),
    "jaxft.Trainer": ("__init__", "train", "evaluate", "predict", "save", "history", "output_dir"),
    "jaxft.models.model.Model": ("labels", "abstract", "init", "apply"),
    "jaxft.step.train_step.TrainState": ("evaluated",),
    "jaxft.step.parameters.Parameters": ("combined", "each"),
    "jaxft.run.setup.Run": ("steps_per_epoch",),
}


def public_names() -> dict[str, str]:
    """What `jaxft` exports: the name of each, and the module that defines it."""
    tree = ast.parse((ROOT / "jaxft/__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {f"jaxft.{alias.name}": f"{node.module}.{alias.name}" for node in imports for alias in node.names}


def names_of_the_loop() -> list[str]:
    """What the loop of docs/own_loop.md uses of jaxft (of a module, its attributes), and the classes of its values."""
    (code,) = re.findall(r"^```python\n(.*?)^```", LOOP.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    tree = ast.parse(code)
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxft"):
            for alias in node.names:
                path = f"{node.module}.{alias.name}"
                used = [f"{path}.{attribute}" for attribute in _attributes(tree, alias.name)]
                names += used if _is_module(path) else [path]
    return sorted(set(names)) + VALUES


def _attributes(tree: ast.AST, name: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name:
            yield node.attr


def _is_module(path: str) -> bool:
    file = ROOT / path.replace(".", "/")
    return file.is_dir() or file.with_suffix(".py").is_file()


def sections() -> list[tuple[str, str, list[str]]]:
    """The title, the text and the names of each section."""
    return [(title, text, names_of_the_loop() if names is None else names) for title, text, names in SECTIONS]


@cache
def module(name: str) -> griffe.Module:
    """A module as griffe reads it, without importing it."""
    logging.getLogger("griffe").setLevel(logging.ERROR)  # "logits, weights:" documents two parameters at once
    file = ROOT / name.replace(".", "/")
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    return griffe.visit(name, filepath=file, code=file.read_text(encoding="utf-8"))


def find(name: str) -> griffe.Object:
    """The definition of a name, or a module."""
    path = public_names().get(name, name)
    if _is_module(path):
        return module(path)
    parent, _, own = path.rpartition(".")
    found = module(parent)[own]
    assert isinstance(found, griffe.Object)
    return found


def members(name: str) -> list[griffe.Object]:
    """What the page shows of a module, its public functions and what it imports from modules of its folder, or of a class,
    its methods and properties.
    """
    thing = find(name)
    if not isinstance(thing, (griffe.Module, griffe.Class)):
        return []
    if isinstance(thing, griffe.Module) and thing.exports:
        exported = [find(x.target_path) for x in thing.members.values() if isinstance(x, griffe.Alias)]
        return [x for x in exported if isinstance(x, griffe.Function | griffe.Class)]
    wanted = METHODS.get(name)
    kinds = (griffe.Function,) if isinstance(thing, griffe.Module) else (griffe.Function, griffe.Attribute)
    return [
        x
        for x in thing.members.values()
        if isinstance(x, kinds)
        and is_documented(x)
        and (x.name in wanted and x.name != "__init__" if wanted is not None else x.name[0] != "_")
    ]


def is_documented(thing: griffe.Object) -> bool:
    """Fields of a dataclass have no docstring of their own: that of the class describes them."""
    return isinstance(thing, griffe.Function) or "property" in thing.labels


def page() -> str:
    """The text of docs/api.md."""
    blocks = [INTRODUCTION]
    for title, text, names in sections():
        blocks += [f"## {title}\n", *([f"{text}\n"] if text else [])]
        for name in names:
            initialised = "__init__" in METHODS.get(name, ())
            blocks += _entry(find(name), f"### `{name}`", initialised=initialised)
            blocks += [line for x in members(name) for line in _entry(x, f"#### `{_short(name)}.{x.name}`")]
    return "\n".join(blocks)


def _short(name: str) -> str:
    """The class of a method, or the module of a function, without the modules around it."""
    return name.rpartition(".")[2]


def _entry(thing: griffe.Object, heading: str, *, initialised: bool = False) -> Iterator[str]:
    yield f"{heading}\n"
    init = thing.members.get("__init__") if initialised else None
    if isinstance(thing, griffe.Function):
        yield f"```python\n{signature(thing)}\n```\n"
    if isinstance(init, griffe.Function):
        yield f"```python\n{signature(init, thing.name)}\n```\n"
    yield from _docstring(thing)
    if isinstance(init, griffe.Function):
        yield from _docstring(init)


def signature(function: griffe.Function, name: str | None = None) -> str:
    """`name(parameters) -> type`, one parameter per line if it is long; `name` is that of a class for its constructor."""
    kinds, parts = griffe.ParameterKind, list[str]()
    parameters = [x for x in function.parameters if x.name not in ("self", "cls")]
    for i, x in enumerate(parameters):
        before = {y.kind for y in parameters[:i]}
        if x.kind is kinds.keyword_only and not before & {kinds.keyword_only, kinds.var_positional}:
            parts.append("*")
        stars = "**" if x.kind is kinds.var_keyword else "*" * (x.kind is kinds.var_positional)
        default = "" if stars or x.default is None else f" = {x.default}"
        parts.append(f"{stars}{x.name}: {x.annotation}{default}")
    returned = "" if name or function.returns is None else f" -> {function.returns}"
    line = f"{name or function.name}({', '.join(parts)}){returned}"
    if len(line) <= WIDTH:
        return line
    return f"{name or function.name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returned}"


def _docstring(thing: griffe.Object) -> Iterator[str]:
    kinds = griffe.DocstringSectionKind
    lists = {kinds.parameters: "Arguments", kinds.attributes: "Attributes", kinds.raises: "Raises"}
    for part in thing.docstring.parse("google") if thing.docstring else ():
        if part.kind is kinds.text:
            yield f"{part.value}\n"
        elif part.kind is kinds.returns:
            yield f"Returns: {' '.join(_joined(x.description) for x in part.value)}\n"
        elif part.kind is kinds.yields:
            yield f"Yields: {' '.join(_joined(x.description) for x in part.value)}\n"
        elif part.kind in lists:
            yield f"{lists[part.kind]}:\n"
            yield from _items((_name(x), x.description) for x in part.value)
        elif part.kind is kinds.admonition:
            yield f"{part.title or part.value.kind.capitalize()}:\n"
            yield from _items(_pairs(part.value.description))
        else:
            raise ValueError(f"{thing.path}: a section {part.kind} of a docstring has no form in docs/api.md")


def _name(item: Any) -> str:
    """What an item of a list documents; `step, epoch` documents two names at once, which griffe divides."""
    name, annotation = getattr(item, "name", ""), str(item.annotation or "")
    return f"{name} {annotation}" if name.endswith(",") else name or annotation.strip("()")


def _items(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield "\n".join(f"- `{name.replace(', ', '`, `')}`: {_joined(text)}" for name, text in pairs) + "\n"


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """The items of a section that griffe does not know (Class attributes): `name: text`, continued by indented lines."""
    for item in re.split(r"\n(?=\S)", text):
        name, _, description = item.partition(": ")
        yield name, description


def _joined(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
