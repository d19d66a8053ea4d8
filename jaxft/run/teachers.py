"""The teachers of a run: where they are, whether they fit the student, and what they add to the training examples."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxft.config import Config
from jaxft.core import tree
from jaxft.core.errors import UserError, about, nearest, some
from jaxft.core.model_source import resolve
from jaxft.core.tree import Params
from jaxft.data.reading.columns import column_values
from jaxft.data.reading.row_numbers import row_names
from jaxft.data.tokens.encode import Examples
from jaxft.data.tokens.tokenizer import load_tokenizer, split_alike
from jaxft.models.load_save import load
from jaxft.models.model import MAIN, Model, are_generic
from jaxft.param_plan.table import ParameterPlan
from jaxft.run.assembly import check_lengths
from jaxft.run.trained_models import MODEL, teacher_paths
from jaxft.step.cached_teacher import Stored, cached_teacher
from jaxft.step.distillation import TEACHER, TeacherOutputs, live_teacher
from jaxft.step.matches import Matches, make_matches
from jaxft.step.teachers import CHOSEN, MeanOfTeachers, side_by_side
from jaxft.tasks.task import Split, Task

WHOLE_TEXTS = ("text-classification", "multiple-choice")  # tasks whose outputs do not depend on how texts are tokenised


@dataclass(frozen=True, eq=False)
class Teacher:
    """A teacher of a run.

    Attributes:
      name: as distill.teacher names it; of a pattern, the directory that was found.
      key: of its parameters in `Parameters.teachers`, and of its column of the training examples.
      model, params: on the host.
      tokenizer: its own, if it is not the student's; its outputs for the training texts are then always computed before
        training.
      examples: the training texts in its own tokens.
    """

    name: str
    key: str
    model: Model
    params: Params
    tokenizer: Any = None
    examples: Examples | None = None

    @property
    def is_live(self) -> bool:
        """Whether it reads the student's tokens, so that it can run in the train step."""
        return self.tokenizer is None


def load_teachers(config: Config, student: Model, task: Task, tokenizer: Any) -> tuple[list[Teacher], list[str]]:
    """(the teachers, in their order, notes for the log), checked against the student and its tokenizer.

    Raises:
      UserError: if a teacher has another head, labels or, where outputs are of tokens, another vocabulary than the student,
        or if there are not as many weights as teachers.
    """
    paths, weights = teacher_paths(config.distill.teacher), config.distill.teacher_weights
    if weights is not None and len(weights) != len(paths):
        raise UserError(
            f"distill.teacher_weights has {len(weights)} numbers for {len(paths)} teachers: give one each, in their order"
        )
    teachers, notes = [], []
    for i, (name, path) in enumerate(paths.items()):
        where = f"distill.teacher {name}"
        with about("distill.teacher"):
            model, params = load(path, dtype=config.distill.teacher_dtype or config.train.dtype)
        _check_head(model, student, where)
        assert model.directory is not None
        own = load_tokenizer(model.directory)
        if own.get_vocab() != tokenizer.get_vocab():
            _check_own_tokenizer(config, task, own.get_vocab(), tokenizer.get_vocab(), where)
            notes.append(f"{where} has a vocabulary of its own: its outputs for the training texts are computed in advance")
        else:
            if not split_alike(own, tokenizer):
                notes.append(
                    f"{where} has the student's vocabulary, but its tokenizer treats capitals, accents or spaces in another "
                    "way: it reads the student's tokens"
                )
            own = None
        check_lengths(model, tokenizer if own is None else own, config.data.max_length, where)
        notes += _if_it_is_the_student(config, model, student, where)
        teachers.append(
            Teacher(name, TEACHER if len(paths) == 1 else f"{TEACHER}_{i}", model, _narrowed(model, params), own)
        )
    return teachers, notes


def with_chosen_teachers(split: Split, teachers: Sequence[Teacher], config: Config) -> Split:
    """The training data with the number of each example's teacher, if `data.teacher` names a column of them.

    Raises:
      UserError: if the column names a teacher that is not there, or the examples are not the rows of the data.
    """
    column, examples = config.data.teacher, split.examples
    if column is None:
        return split
    if column not in split.rows.column_names or len(split.rows) != len(examples):
        raise UserError("data.teacher is for tasks on whole texts, whose examples are the rows of the data")
    if varying := _varying(config):
        raise UserError(f"data.teacher and {varying} exclude each other: the examples are no longer those of the data")
    chosen = _chosen(split, column, [teacher.name for teacher in teachers])
    return replace(split, examples=examples.with_columns(**{CHOSEN: chosen}))


def with_own_texts(teacher: Teacher, config: Config, task: Task, split: Split) -> Teacher:
    """The teacher, with the training texts in its own tokens if these are not the student's.

    Raises:
      UserError: if a text has too many of its tokens.
    """
    if teacher.is_live:
        return teacher
    return replace(teacher, examples=own_split(config, task, teacher, split, labelled=False).examples)


def own_split(config: Config, task: Task, teacher: Teacher, split: Split, *, labelled: bool = True) -> Split:
    """A split in the tokens of a teacher; the split itself if they are the student's."""
    if teacher.is_live:
        return split
    directory: Any = teacher.model.directory
    return task.encode(split.rows, teacher.tokenizer, directory, config, split.origin, labelled=labelled)


def matches_of(config: Config, student: Model, teachers: Sequence[Teacher]) -> Matches | None:
    """The matches between the layers of a student and its teacher that the config asks for.

    Raises:
      UserError: if there are several teachers, or one that does not read the student's tokens; or as `make_matches`.
    """
    if not teachers or not config.distill.matches:
        return None
    if len(teachers) > 1:
        raise UserError(
            f"distill.matches compares the layers of one teacher, but distill.teacher has {len(teachers)}: name one, or "
            "leave out distill.matches"
        )
    if not teachers[0].is_live:
        raise UserError(
            f"distill.teacher {teachers[0].name} has another vocabulary than the student, but distill.matches compares "
            "tokens: they must share token ids"
        )
    encoders = student.encoder.config, teachers[0].model.encoder.config
    return make_matches(config.distill, *encoders, attention=config.runtime.attention)


def check_matches(config: Config, plan: ParameterPlan) -> tuple[str, ...]:
    """A note for the log if the plan trains nothing that matches could change.

    Raises:
      UserError: if there is nothing else to train on, either.
    """
    if not config.distill.matches or any(x.trainable for name, x in plan.settings.items() if name.startswith("encoder.")):
        return ()
    why = "the plan trains nothing of the encoder, whose outputs distill.matches compares"
    if not config.distill.output_weight:
        raise UserError(f"{why}, and distill.output_weight is 0: train a layer, such as with plan.preset last_n")
    return (f"{why}: the matches do not change the student",)


def teacher_outputs(
    teachers: Sequence[Teacher], stored: Mapping[str, Stored], outputs: Collection[str] = ()
) -> TeacherOutputs:
    """The outputs of one teacher, or of several side by side.

    Args:
      teachers: of the run.
      stored: the outputs that are columns of the batch, by the keys of their teachers; other teachers run in the step.
      outputs: of the encoder of a single teacher, which its matches need.
    """
    each = [
        cached_teacher(stored[x.key], x.key) if x.key in stored else live_teacher(x.model, outputs, x.key) for x in teachers
    ]
    return each[0] if len(each) == 1 else side_by_side(each)


def taught_task(teachers: Sequence[Teacher], task: Task, config: Config) -> Any:
    """What `with_teacher` compares a student with one or several teachers by."""
    own = config.distill
    if len(teachers) == 1:
        return task
    weights = own.teacher_weights or [1.0] * len(teachers)
    return MeanOfTeachers(task, tuple(x / sum(weights) for x in weights), own.loss, own.temperature)


def _check_head(model: Model, student: Model, where: str) -> None:
    kind, own_kind = model.heads[MAIN].kind, student.heads[MAIN].kind
    if kind != own_kind:
        raise UserError(f"{where} is a {kind} model; this run needs a fine-tuned {own_kind} model")
    generic = len(model.labels) == len(student.labels) and are_generic(model.labels)
    if model.labels != student.labels and not generic:
        raise UserError(
            f"{where} has the labels {some(model.labels)} ({len(model.labels)}), this run has "
            f"{some(student.labels)} ({len(student.labels)}): set task.labels to the teacher's, in its order"
        )


def _check_own_tokenizer(
    config: Config, task: Task, vocabulary: Mapping[str, int], own_vocabulary: Mapping[str, int], where: str
) -> None:
    """Refuse another vocabulary if the teacher must see the student's tokens, or texts that differ between epochs."""
    if task.kind not in WHOLE_TEXTS or task.masks_inputs:
        if vocabulary.items() <= own_vocabulary.items():
            unknown = sorted(own_vocabulary.keys() - vocabulary.keys(), key=own_vocabulary.__getitem__)
            raise UserError(
                f"{where} does not know the words that were added ({some(unknown)}): add them to it "
                "first, by a run of its own"
            )
        raise UserError(
            f"{where} has another vocabulary than the student, and the outputs of {task.kind} are of tokens: they must "
            "share token ids"
        )
    if varying := _varying(config):
        raise UserError(
            f"{where} has another vocabulary than the student, so that its outputs are computed in advance, but {varying} "
            "changes the texts in every epoch: leave it out, or take a teacher with the student's vocabulary"
        )


def _varying(config: Config) -> str:
    """The option that makes the examples of epochs differ; empty without one."""
    options = {
        "augment.steps": config.augment.steps,
        "augment.mixup": config.augment.mixup,
        "unlabelled.data": config.unlabelled.data,
        "domains.texts": config.domains.texts,
    }
    return next((name for name, value in options.items() if value), "")


def _if_it_is_the_student(config: Config, model: Model, student: Model, where: str) -> list[str]:
    """A note if student and teacher are the same model when training begins.

    Raises:
      UserError: if nothing but the teacher is learnt then.
    """
    own, distill = config.model, config.distill
    assert model.directory is not None
    same = model.directory.resolve() == resolve(str(own.path), own.revision).resolve()
    new = own.from_scratch or config.vocabulary != type(config.vocabulary)() or "reinit" in config.plan.presets()
    if not same or new or model.encoder.config.num_layers != student.encoder.config.num_layers:
        return []
    alone = distill.unlabelled or (distill.alpha == 1 and distill.alpha_end in (None, 1.0))
    if alone and len(teacher_paths(distill.teacher)) == 1:
        why, other = (
            ("distill.unlabelled", "train on labels") if distill.unlabelled else ("distill.alpha 1", "lower distill.alpha")
        )
        raise UserError(
            f"{where} is the model that the student starts from, and with {why} there is nothing to learn from it: give the "
            f"student fewer layers (model.layers), or {other}"
        )
    return [f"{where} is the model that the student starts from, with all layers: it only holds the student to what it was"]


def _chosen(split: Split, column: str, names: Sequence[str]) -> np.ndarray:
    """The number of each row's teacher, int32 [N]."""
    short = [path.parent.name if (path := Path(name)).name == MODEL else path.name for name in names]
    numbers = {str(i): i for i in range(len(names))}
    named = {name: i for i, name in enumerate(short) if short.count(name) == 1} | {name: i for i, name in enumerate(names)}
    unclear = {text for text, i in numbers.items() if named.get(text, i) != i}  # runs/1 is the first teacher, number 0
    numbers |= named
    found = np.empty(len(split.rows), np.int32)
    for i, value in enumerate(column_values(split.rows, column)):
        text = str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
        if text not in numbers:
            raise UserError(
                f'{row_names(split.rows, split.origin)(i)} has {value!r} in column "{column}": must be 0 to '
                f"{len(names) - 1} or the name of a teacher ({some(short)}){nearest(text, [*short, *names])}"
            )
        if text in unclear:
            raise UserError(
                f'{row_names(split.rows, split.origin)(i)} has {value!r} in column "{column}", which is the number of '
                f"{names[int(text)]} and the name of {names[numbers[text]]}: give the whole path as in distill.teacher"
            )
        found[i] = numbers[text]
    return found


def _narrowed(model: Model, params: Params) -> Params:
    """The parameters with the kernels of a teacher in bfloat16 in that type, which every product would convert them to.

    A frozen teacher then takes little more than half of the memory, with the same outputs.
    """
    lora = model.encoder.config.lora
    if model.policy.dtype != "bfloat16" or (lora and lora.dora):  # DoRA takes the norms of kernels
        return params

    def leaf(path: tree.Path, x: np.ndarray) -> np.ndarray:
        narrow = path[-1] == "kernel" and "convolution" not in path
        return np.asarray(x, jnp.bfloat16) if narrow else x

    return tree.map_with_path(leaf, params)
