"""What a student costs and what it keeps: its size, speed and score beside those of its teachers, at the end of a run."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxft.core import distributed, tree
from jaxft.core.phases import EVALUATING, phase
from jaxft.data.batching.prefetch import device_batch
from jaxft.evaluation.evaluator import Evaluator, make_evaluator, score
from jaxft.models.model import Model
from jaxft.parallel import sharding
from jaxft.run.loss import make_loss
from jaxft.run.setup import Run, eval_sampler
from jaxft.run.teachers import own_split
from jaxft.step.parameters import Parameters
from jaxft.tasks.task import Split
from jaxft.training.evaluations import Evaluations

SECONDS, MOST_CALLS, MOST_BATCHES = 0.5, 64, 8  # how long, and with how many batches, the speed of a model is measured


@dataclass(frozen=True)
class Measured:
    """A model: its parameters, the size of its file in bytes, examples per second of prediction, and its score."""

    name: str
    parameters: int
    size: int
    speed: float
    score: float | None


@dataclass(frozen=True)
class Comparison:
    """A student and its teachers on one split of the data.

    Attributes:
      metric, higher: the name of the score, and whether a higher one is better.
    """

    split: str
    examples: int
    metric: str
    higher: bool
    student: Measured
    teachers: tuple[Measured, ...]

    @property
    def best(self) -> Measured:
        """The teacher with the best score."""
        known = [x for x in self.teachers if x.score is not None]
        sign = 1 if self.higher else -1
        return max(known, key=lambda x: sign * (x.score or 0.0)) if known else self.teachers[0]

    @property
    def share(self) -> float | None:
        """The student's score as a share of the best teacher's; None if a lower one is better, or it is not above 0."""
        own, best = self.student.score, self.best.score
        return own / best if self.higher and own is not None and best is not None and best > 0 else None

    @property
    def together(self) -> tuple[int, int, float]:
        """(parameters, bytes, examples per second) of all teachers, one after the other."""
        each = self.teachers
        return sum(x.parameters for x in each), sum(x.size for x in each), 1 / sum(1 / x.speed for x in each)

    def results(self) -> dict[str, Any]:
        """The numbers by their names in the row of the end: of all teachers together, and the score of the best."""
        parameters, size, speed = self.together
        share = {} if self.share is None else {"distill/share": self.share}
        return share | {
            f"distill/teacher_{self.metric}": self.best.score,
            f"distill/student_{self.metric}": self.student.score,
            "distill/teacher_parameters": parameters,
            "distill/student_parameters": self.student.parameters,
            "distill/teacher_megabytes": size / 1e6,
            "distill/student_megabytes": self.student.size / 1e6,
            "distill/teacher_examples_per_second": speed,
            "distill/student_examples_per_second": self.student.speed,
        }

    def lines(self) -> list[str]:
        """A table, and a line with the shares."""
        head = ["", "parameters", "size", "examples/s", self.metric]
        rows = [head, *(_cells(x) for x in (*self.teachers, self.student))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        (parameters, _, speed), own, many = self.together, self.student, len(self.teachers) > 1
        owner = "the teachers'" if many else "the teacher's"
        cost = f"{own.parameters / parameters:.1%} of {owner} parameters and {own.speed / speed:.1f} times their speed"
        cost = cost if many else cost.replace("their", "its")
        kept = "" if self.share is None else f"{self.share:.1%} of the {'best ' * many}teacher's {self.metric}, "
        about = f"teacher{'s' * many} and student on the {self.split} data ({self.examples:,} examples):"
        return [about, *(f"  {line}" for line in table), f"the student has {kept}{cost}"]


def compare_with_teachers(
    run: Run,
    evaluations: Evaluations,
    params: Parameters,
    teachers: Mapping[str, Any],
    results: Mapping[str, Any],
    say: Callable[[str], None],
) -> Comparison | None:
    """Evaluate the teachers and measure the speed of all; None without teachers, data to evaluate, or `distill.compare`.

    Args:
      params: of the student, on the mesh.
      teachers: the parameters of teachers that are on the mesh, by their keys.
      results: the student's scores.
    """
    split = next((x for x in ("test", "validation") if x in run.data), None)
    if split is None or not run.teachers or not run.config.distill.compare:
        return None
    with phase(EVALUATING):
        if split in evaluations.cache.data:  # without the layers that are cached it would be too fast
            evaluator = _evaluator(run, run.model, run.data[split], params, say)
        else:
            evaluator = evaluations.request(split, params)
        own = results.get(f"{'eval' if split == 'validation' else split}/{run.metric}")
        student = _measured("student", run.model, own, _speed(evaluator, params))
        found = []
        for teacher in run.teachers:
            placed = teachers.get(teacher.key)
            given = Parameters(sharding.place_params(run.mesh, teacher.params) if placed is None else placed)
            evaluator = _evaluator(run, teacher.model, own_split(run.config, run.task, teacher, run.data[split]), given, say)
            scores = score(evaluations.task, evaluator.collect(given, evaluations.check), evaluator.data)
            name = "teacher" if len(run.teachers) == 1 else f"teacher {teacher.name}"
            found.append(_measured(name, teacher.model, scores.get(run.metric), _speed(evaluator, given)))
    higher = run.task.metrics[run.metric]
    return Comparison(split, len(run.data[split].examples), run.metric, higher, student, tuple(found))


def _evaluator(run: Run, model: Model, split: Split, params: Parameters, say: Callable[[str], None]) -> Evaluator:
    sampler = eval_sampler(split.examples, run.config, run.mesh)
    return make_evaluator(run.task, make_loss(model, run.task), split, sampler, params, run.mesh, say)


def _measured(name: str, model: Model, score: float | None, speed: float) -> Measured:
    shapes = tree.unstacked_shapes(model.abstract())
    dtypes = {name: np.dtype(model.origin.dtypes.get(name, np.float32)) for name in shapes}
    sizes = {name: int(np.prod(x.shape)) for name, x in shapes.items()}
    return Measured(name, sum(sizes.values()), sum(x * dtypes[name].itemsize for name, x in sizes.items()), speed, score)


def _speed(evaluator: Evaluator, params: Parameters) -> float:
    """Examples per second of compiled programs that have run before: some batches, again and again for about SECONDS."""
    batches, place = evaluator.batches, sharding.batch_sharding(evaluator.mesh)
    steps = np.unique(np.linspace(0, batches.steps - 1, MOST_BATCHES).round().astype(int)).tolist()
    examples = evaluator.data.examples
    given = [(evaluator.steps[batches.shape(x)], device_batch(batches, examples, [x], place)) for x in steps]
    counts = [len(batches.examples(x)) for x in steps]

    def run(calls: int) -> float:
        begin, last = time.perf_counter(), None
        for i in range(calls):
            program, batch = given[i % len(given)]
            last = program(params, batch)
            if i % 4 == 3:  # not too many batches at once in the memory of the device
                jax.block_until_ready(last)
        jax.block_until_ready(last)
        return time.perf_counter() - begin

    run(1)
    calls = distributed.from_main(min(MOST_CALLS, max(1, int(SECONDS / max(run(1), 1e-6)))))
    seconds = run(calls)
    return sum(counts[i % len(counts)] for i in range(calls)) / seconds


def _cells(x: Measured) -> list[str]:
    score = "unknown" if x.score is None else f"{x.score:.4f}"
    return [x.name, f"{x.parameters:,}", f"{x.size / 1e6:,.1f} MB", f"{x.speed:,.0f}", score]
