"""Small faults of runs of several tasks."""

from tests.mutants.fault import Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        "task-sees-examples-of-others",
        "jaxft/tasks/several.py",
        'weights = batch["weights"] * (batch[TASK] == number)',
        'weights = batch["weights"]',
        "The examples of other tasks count as examples of a task, with the label 0.",
    ),
    Fault(
        "tasks-scored-on-others-examples",
        "jaxft/tasks/several_splits.py",
        "own = slice(*self.begins[number : number + 2])",
        "own = slice(*self.begins[0:2])",
        "The scores of all tasks but the first are computed from the outputs for the first task's examples.",
    ),
    Fault(
        "epochs-repeat-first-examples-of-task",
        "jaxft/data/batching/task_orders.py",
        "return epoch * self.counts(0)",
        "return 0 * self.counts(0)",
        "If an epoch takes a part of a task's examples, every epoch takes the same ones, and the others are never seen.",
    ),
    Fault(
        "resume-forgets-scores-of-tasks",
        "jaxft/training/loop.py",
        "run.task_scores.begin(self.progress.task_scores,",
        "run.task_scores.begin((),",
        "A resumed run with sampling.sampler validation draws other examples than the uninterrupted one.",
    ),
)
