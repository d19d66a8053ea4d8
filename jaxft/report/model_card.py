"""The model card of a run: README.md of its model directory, with the front matter that Hugging Face's hub reads."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from jaxft.config import Config
from jaxft.core import safe_yaml
from jaxft.core.output import writing
from jaxft.report.markup import number

FILE = "README.md"
_MARK = "<!-- written by jaxft; without this line, jaxft leaves the file alone -->"
_SPLITS = {"eval": "validation", "test": "test"}


def write_card(directory: Path, config: Config, kind: str, results: Mapping[str, Any], *, adapter: bool = False) -> None:
    """Write README.md into a model directory unless it has one that somebody else wrote.

    Args:
      directory: of the model.
      config: of the run.
      kind: the Hugging Face task name.
      results: scores by name, `eval/accuracy`; those that are no numbers are left out.
      adapter: whether the directory holds an adapter and not a whole model.

    Raises:
      UserError: if it cannot be written.
    """
    path = directory / FILE
    if path.is_file() and _MARK not in path.read_text(encoding="utf-8", errors="replace"):
        return
    with writing(str(path)) as file:
        file.write(card(config, kind, results, adapter=adapter).encode("utf-8", "replace"))


def card(config: Config, kind: str, results: Mapping[str, Any], *, adapter: bool = False) -> str:
    """The text of the card; see `write_card`."""
    scores = {name: x for name, x in results.items() if isinstance(x, int | float) and name.partition("/")[0] in _SPLITS}
    title = Path(config.output_dir).resolve().name
    tag = "fill-mask" if kind == "pretraining" else kind
    start = None if config.model.from_scratch else config.model.path  # of random weights, its config.json alone
    base, data = _hub_id(start), _hub_id(config.data.dataset)
    front: dict[str, Any] = {"library_name": "peft" if adapter else "transformers", "pipeline_tag": tag, "tags": ["jaxft"]}
    front |= {"base_model": base} if base else {}
    front |= {"datasets": [data]} if data else {}
    if scores:
        front["metrics"] = sorted({name.partition("/")[2] for name in scores} - {"loss"})
        front["model-index"] = [{"name": title, "results": _results(kind, data or "own data", scores)}]
    parts = ["---", yaml.dump(front, Dumper=safe_yaml.Dumper, sort_keys=False, allow_unicode=True).strip(), "---", _MARK, ""]
    how = f"from {base}" if base else "from a local model" if start else "from scratch"
    parts += [f"# {title}", "", f"A model for {kind}, trained {how} with jaxft{_teachers(config)}.", ""]
    if scores:
        parts += ["| data | score | value |", "|---|---|---|"]
        parts += [
            f"| {_SPLITS[name.partition('/')[0]]} | {name.partition('/')[2]} | {number(x)} |" for name, x in scores.items()
        ]
        parts.append("")
    parts += ["## Training", ""]
    optim, train = config.optim, config.train
    length = f"{train.max_steps:,} steps" if train.max_steps else f"{train.epochs:g} epochs"
    parts += [
        f"Trained for {length} of batches of {train.batch_size} with {optim.name}, learning rate {optim.learning_rate:g}, "
        f"seed {config.seed}.",
        "",
        "```python",
        *("import jaxft", "", 'model = jaxft.pipeline("THIS_DIRECTORY")', "```", ""),
        "## Limits",
        "",
        f"- {_longest(config, kind)}",
        f"- {'The scores are those of the data above' if scores else 'No scores were measured'}: expect others on texts "
        "of another kind, language or subject.",
        "- What the training data have of errors, gaps and prejudices, the model may have as well.",
        "",
        "## Versions",
        "",
        f"jaxft {version('jaxft')}, jax {version('jax')}, Python {platform.python_version()}",
        "",
    ]
    return "\n".join(parts)


def _longest(config: Config, kind: str) -> str:
    """What happens to long texts."""
    most = config.data.max_length
    if kind == "question-answering":
        return f"Contexts are read in windows of {most:,} tokens, question included."
    return f"The model was trained on texts of at most {most:,} tokens; what is behind them was cut off or refused."


def _teachers(config: Config) -> str:
    """The end of a sentence that names the teachers of a distillation; nothing without one."""
    given = config.distill.teacher
    names = [given] if isinstance(given, str) else given or []
    shown = ["local models" if "*" in x else _hub_id(x) or "a local model" for x in names]
    return f", distilled from {', '.join(shown)}" if names else ""


def _hub_id(name: str | None) -> str | None:
    """A name that the hub knows; None for a local path or a package."""
    return None if name is None or ":" in name or name.count("/") > 1 or Path(name).exists() else name


def _results(kind: str, data: str, scores: Mapping[str, float]) -> list[dict[str, Any]]:
    """The entries of the hub's model index, one per split."""
    found = []
    for prefix, split in _SPLITS.items():
        own = {name.partition("/")[2]: x for name, x in scores.items() if name.startswith(f"{prefix}/")}
        if own:
            values = [{"type": name, "value": float(x)} for name, x in own.items()]
            source = {"name": data, "type": data, "split": split}
            found.append({"task": {"type": kind}, "dataset": source, "metrics": values})
    return found
