"""The section `task`: what is learnt, and the options that each task honours."""

import dataclasses
import typing
from collections.abc import Set
from dataclasses import dataclass
from typing import Annotated, Literal

from jaxft.config.limits import Limit, NonNegativeFloat, PositiveInt, ProperFraction, Section
from jaxft.config.used_by import PLAN_AND_EVALUATE, UsedBy, mark_of
from jaxft.core.object_reference import is_reference

TaskName = Literal[
    "fill-mask", "multiple-choice", "pretraining", "question-answering", "text-classification", "token-classification"
]
Problem = Literal["single_label", "multi_label", "regression"]
LABELLED: tuple[TaskName | Problem, ...] = ("single_label", "multi_label", "token-classification")


class For:
    """The tasks that honour an option; a problem stands for text classification with that `task.problem`."""

    def __init__(self, *names: TaskName | Problem) -> None:
        self.names = frozenset(names)

    def __str__(self) -> str:
        problems = [name for name in typing.get_args(Problem) if name in self.names]
        tasks = [name for name in typing.get_args(TaskName) if name in self.names]
        return ", ".join([*([f"text-classification ({', '.join(problems)})"] if problems else []), *tasks])


TASK = Limit(
    f"one of {', '.join(typing.get_args(TaskName))}, or module:Class of your own",
    lambda x: x in typing.get_args(TaskName) or is_reference(x),
)
NAMES = Limit("two or more different names", lambda x: len(set(x)) == len(x) > 1)
WEIGHTS = Limit(
    "finite numbers, 0 or more, one of them above 0",
    lambda x: x == "balanced" or (max(x, default=0) > 0 and all(0 <= weight < float("inf") for weight in x)),
)
THRESHOLD = Limit("from 0 to 1, or tune", lambda x: x == "tune" or 0 <= x <= 1)


@dataclass(frozen=True)
class TaskConfig(Section):
    """The task that the model learns."""

    used_by = PLAN_AND_EVALUATE

    name: Annotated[TaskName | str, TASK, UsedBy.PLAN] = "text-classification"
    """Name of the task, as on the Hugging Face hub; or module:Class of your own, a subclass of jaxft.tasks.task.Task."""
    loss: str | None = None
    """A loss of your own in place of the task's: module:function, (outputs, batch, train) -> (sum, weight)."""
    labels: Annotated[list[str] | None, NAMES, UsedBy.PLAN, For(*LABELLED)] = None
    """Names of the labels in the order of their ids; null takes those that the training data declares (ClassLabel), or
    else its labels in sorted order."""
    problem: Annotated[Problem, For("text-classification")] = "single_label"
    """What a text has: single_label means exactly one label, multi_label any number of labels, and regression one or more
    numbers (data.label names their columns)."""
    class_weights: Annotated[Literal["balanced"] | list[float] | None, WEIGHTS, UsedBy.PLAN, For(*LABELLED)] = None
    """Weight of each label in the training loss, in the order of the labels (multi_label: of its positive examples);
    balanced gives rare labels larger weights."""
    focal_gamma: Annotated[NonNegativeFloat, UsedBy.PLAN, For("single_label", "multi_label")] = 0.0
    """Exponent of the focal loss in training; 0 is plain cross-entropy."""
    threshold: Annotated[Literal["tune"] | float, THRESHOLD, For("multi_label")] = 0.5
    """Smallest probability at which a label is given; tune chooses the best threshold on the validation data."""
    tag_scheme: Annotated[Literal["auto", "iob1", "iob2", "bioes", "bilou", "bmes", "none"], For("token-classification")] = (
        "auto"
    )
    """How tags mark entities (bioes is also called IOBES); auto reads any of the schemes; none scores each tag by itself
    (part of speech)."""
    label_pieces: Annotated[Literal["first", "all"], For("token-classification")] = "first"
    """Pieces of a word that are trained on."""
    unanswerable: Annotated[bool, For("question-answering")] = False
    """Whether questions may have no answer (SQuAD 2)."""
    null_threshold: Annotated[Literal["tune"] | float, For("question-answering")] = "tune"
    """How far the score of no answer must exceed the score of the best answer; tune chooses the threshold with the best F1
    on the validation data."""
    n_best: Annotated[PositiveInt, For("question-answering", "fill-mask", "pretraining")] = 20
    """Number of candidates. Question answering: starts and ends considered per window, and answers kept per question. Masked
    LM: words predicted per mask."""
    max_answer_length: Annotated[PositiveInt, For("question-answering")] = 30
    """Longest answer in tokens."""
    misplaced_answers: Annotated[Literal["error", "drop"], For("question-answering")] = "error"
    """What to do with answers that are not at their offset; drop does not train on them, and evaluation, which needs no
    offsets, still counts them as right."""
    mask_rate: Annotated[ProperFraction, For("fill-mask", "pretraining")] = 0.15
    """Share of the tokens to predict, between 0 and 1; of these 80 % are masked, 10 % replaced and 10 % left."""
    whole_words: Annotated[bool, For("fill-mask", "pretraining")] = False
    """Mask all pieces of a word together."""
    sentence_order: Annotated[bool | None, For("pretraining")] = None
    """Second task of pretraining: sentence order (true) or next sentence (false); null takes that of the model's family."""

    @property
    def options(self) -> list[str]:
        """Names of the fields that this task of jaxft honours, in addition to its name and loss."""
        return options_for({self.name, self.problem} if self.name == "text-classification" else {self.name})


def options_for(names: Set[str]) -> list[str]:
    """Names of the fields of `TaskConfig` that tasks or problems of these names honour."""
    return [field.name for field in dataclasses.fields(TaskConfig) if mark_of(field.type, For, For()).names & names]
