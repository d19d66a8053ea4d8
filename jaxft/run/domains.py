"""The domains of a run: of each training example, and of texts of other domains, which have no labels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from jaxft.config import Config
from jaxft.core.errors import UserError, naming, some
from jaxft.data.tokens.encode import Examples
from jaxft.data.tokens.replace import join_examples
from jaxft.models.model import Model
from jaxft.param_plan import ParameterPlan
from jaxft.run.example_weights import WEIGHTS, with_weights
from jaxft.run.row_columns import column_of_examples, file_of_examples
from jaxft.run.run_tokenizer import Vocabulary
from jaxft.run.unlabelled import config_of_texts, read_unlabelled
from jaxft.step.domains import DOMAIN
from jaxft.tasks.task import Split, Task


@dataclass(frozen=True)
class Domains:
    """The domains of a run.

    Attributes:
      names: in the order of their numbers.
      training: the training data with the number of each example's domain.
      texts: the examples of `domains.texts`, which the task's loss does not count; None without the option.
    """

    names: tuple[str, ...]
    training: Split
    texts: Examples | None = None

    def line(self) -> str:
        """A line for the log: the number of examples of each domain."""
        kinds = {"": self.training.examples, " texts": self.texts}
        counts = {
            kind: np.bincount(x.columns[DOMAIN], minlength=len(self.names)) for kind, x in kinds.items() if x is not None
        }
        each = [
            f"{name} {' and '.join(f'{n[i]:,}{kind}' for kind, n in counts.items() if n[i])}"
            for i, name in enumerate(self.names)
        ]
        return f"domains: {some(each, 8)}"


def read_domains(config: Config, task: Task, split: Split, vocabulary: Vocabulary) -> Domains:
    """The domains that the config asks for.

    Args:
      config, task, vocabulary: of the run.
      split: the training data.

    Raises:
      UserError: if there is one domain only, a row has none, or the texts cannot be used.
    """
    own, column, given = config.domains, config.domains.column, _paths(config.domains.texts)
    where: list[str | list[str]] = [given] if column is not None and given else list(given)
    parts = [read_unlabelled(config, task, vocabulary, x, "domains.texts") for x in where]
    if column is not None:
        values = [_values(config, task, split, column)]
        with naming("domains.texts", instead_of="data.train"):
            values += [_values(config_of_texts(config, given), task, part, column) for part in parts]
        names = tuple(sorted({*chain.from_iterable(values)}))
    else:
        if same := [] if own.files else [x for x in given if x in _paths(config.data.train)]:
            raise UserError(f"domains.texts names {same[0]}, as data.train does: give texts of another domain")
        values = [_files(config, task, split) if own.files else ["data.train"] * len(split.examples)]
        values += [[name] * len(part.examples) for name, part in zip(given, parts, strict=True)]
        names = tuple(dict.fromkeys(chain.from_iterable(values)))
    if len(names) < 2:
        what = "there is" if column is None else f'column "{column}" has'
        raise UserError(f"{split.origin}: {what} one domain, {', '.join(names)}: domains needs two or more")
    training = replace(split, examples=_with_domains(split.examples, names, values[0]))
    if not parts:
        return Domains(names, training)
    if WEIGHTS not in training.examples.columns:
        training = replace(training, examples=with_weights(training.examples, np.ones(len(split.examples))))
    texts = [
        _conformed(_with_domains(part.examples, names, own), training.examples, part.origin)
        for part, own in zip(parts, values[1:], strict=True)
    ]
    return Domains(names, training, join_examples(texts))


def head_widths(config: Config, model: Model, domains: Domains) -> list[int]:
    """The widths of the domain classifier: of hidden states, perhaps of its hidden layer, and the number of domains."""
    hidden = [config.domains.hidden] if config.domains.hidden else []
    return [model.encoder.config.hidden_size, *hidden, len(domains.names)]


def check_plan(plan: ParameterPlan) -> None:
    """Refuse a plan that trains nothing of the encoder, which alone is to learn from the domains."""
    if not any(x.trainable for name, x in plan.settings.items() if re.match(r"encoder\.(?!pooler\.)", name)):
        raise UserError("domains: the plan trains nothing of the encoder below its pooler, so there is nothing to adapt")


def _paths(given: str | list[str] | None) -> list[str]:
    return [] if given is None else [str(x) for x in given] if isinstance(given, list) else [str(given)]


def _values(config: Config, task: Task, split: Split, column: str) -> list[str]:
    """The name of each example's domain."""
    values, row_of = column_of_examples(config, task, split, column, "domains.column")
    if (wrong := next((i for i, x in enumerate(values) if isinstance(x, list | dict)), None)) is not None:
        where = task.row_names(split.rows, split.origin)(wrong)
        raise UserError(f'{where} has {values[wrong]!r} in column "{column}" (domains.column): must be one name')
    names = [str(int(x) if isinstance(x, float) and x.is_integer() else x).strip() for x in values]
    return [names[row] for row in row_of.tolist()]


def _files(config: Config, task: Task, split: Split) -> list[str]:
    """The file of each example."""
    names, row_of = file_of_examples(config, task, split, "domains.files")
    return [names[row] for row in row_of.tolist()]


def _with_domains(examples: Examples, names: Sequence[str], values: Sequence[str]) -> Examples:
    numbers = {name: i for i, name in enumerate(names)}
    return examples.with_columns(**{DOMAIN: np.array([numbers[x] for x in values], np.int32)})


def _conformed(texts: Examples, like: Examples, origin: str) -> Examples:
    """Texts with the columns of training examples: what they lack, labels and weights, is 0.

    Raises:
      UserError: if their examples have another number of texts.
    """
    if texts.group != like.group:
        raise UserError(
            f"{origin}: the examples have {texts.group} choices, those of the training data {like.group}: must be as many"
        )

    def column(found: Any, x: np.ndarray, count: int) -> np.ndarray:
        return np.zeros((count, *x.shape[1:]), x.dtype) if found is None else np.asarray(found).astype(x.dtype)

    total = int(texts.offsets[-1])
    known = {**texts.tokens, "words": None}  # of masked LM: 0 are tokens that are never masked
    tokens = {name: column(known.get(name), x, total) for name, x in like.tokens.items()}
    columns = {name: column(texts.columns.get(name), x, len(texts)) for name, x in like.columns.items()}
    return replace(texts, tokens=tokens, columns=columns)
