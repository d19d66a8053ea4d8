"""What determines the outputs of a teacher, as JSON: the name of a cache, and what to compare one with."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jaxft.config import Config
from jaxft.core import checksums, tree
from jaxft.core.tree import Params
from jaxft.data.tokens.encode import Examples
from jaxft.models.model import Model
from jaxft.run import input_files
from jaxft.run.setup import Run
from jaxft.step.cached_teacher import StoredOutput
from jaxft.teacher_cache import layout

FORMAT = 1
ESSENTIAL = ("format", "software", "teacher", "texts", "settings")  # other entries only explain a difference
_NAMES = {"format": "the format of the files", "software": "the version of jaxft or JAX", "settings": "the list of settings"}


def describe(run: Run, teacher: tuple[Model, Params], texts: Examples, stored: Sequence[StoredOutput]) -> dict[str, Any]:
    """What determines the outputs that are stored of a run's teacher for these texts, as JSON."""
    model, params = teacher
    flat = tree.flatten(params)
    policy, config = model.policy, run.config
    data = replace(config.data, validation=None, test=None)
    outputs = [{**asdict(x), "shape": list(x.shape)} for x in stored]
    return {
        "format": FORMAT,
        "software": {"code": _code(), "jax": version("jax")},
        "teacher": {
            "parameters": checksums.of_arrays((".".join(path), flat[path]) for path in sorted(flat)),
            "config": checksums.of_json(model.hf_config),
        },
        "texts": checksums.of_arrays([*sorted(texts.tokens.items()), ("offsets", texts.offsets)]),
        "settings": {
            "examples": len(texts),
            "group": texts.group,
            "outputs": outputs,
            "dtype": str(policy.dtype),
            "precision": config.runtime.precision,
            "platform": policy.platform,
            "layout": [layout.TOKENS, layout.ROW, layout.UNIT],
        },
        "files": input_files.read(Config(data=data, distill=config.distill)),
        "options": {f"data.{name}": value for name, value in asdict(data).items()},
    }


def is_same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether two descriptions are of the same outputs."""
    return all(found.get(name) == wanted[name] for name in ESSENTIAL)


def name_of(wanted: Mapping[str, Any]) -> str:
    """The name of the folder of these outputs."""
    return checksums.of_json({name: wanted[name] for name in ESSENTIAL})[:32]


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What two descriptions differ in: the files if some have changed, otherwise the options, or what else there is."""
    lines = []
    for name in ESSENTIAL:
        there, here = found.get(name), wanted[name]
        if there == here:
            continue
        if name == "settings" and isinstance(there, Mapping):
            lines += _changed(there, here)
        elif name in ("teacher", "texts"):
            changed = _files(found, wanted, teacher=name == "teacher")
            if not changed and name == "texts":
                changed = _changed(found.get("options") or {}, wanted["options"])
            lines += changed or [f"the {name} has changed"]
        else:
            lines.append(f"{_NAMES[name]} has changed")
    return lines


def _files(found: Mapping[str, Any], wanted: Mapping[str, Any], *, teacher: bool) -> list[str]:
    """The files that differ: those of the teacher, or those of the data."""
    there, here, lines = found.get("files") or {}, wanted["files"], []
    for option in here:
        if (option == "distill.teacher") == teacher:
            lines += input_files.differences(option, there.get(option, {}), here[option])
    return lines


def _changed(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} ({_shown(there.get(name))} there, {_shown(x)} here)" for name, x in here.items() if there.get(name) != x
    ]


def _shown(value: Any) -> str:
    """A value of the settings; of the outputs their names, such as "8 largest logits + hidden_states.2"."""
    if not isinstance(value, list) or not value or not all(isinstance(x, Mapping) and "name" in x for x in value):
        return str(value)
    return " + ".join(f"{x['keep']} largest {x['name']}" if x.get("keep") else str(x["name"]) for x in value)


@cache
def _code() -> str:
    """A digest of the code of models, since another version may compute other outputs."""
    package = Path(__file__).parents[1]
    files = sorted(package.glob("models/**/*.py"))
    return checksums.of_json({str(x.relative_to(package)): checksums.of_file(x) for x in files})
