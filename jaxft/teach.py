"""jaxft teach CONFIG.yaml: run the teacher of a config once over its training data, and keep its outputs.

Every run that learns from this teacher on these texts reads them and does not run the teacher itself. The teacher's own
scores on validation and test data are printed. The same command goes on if it was interrupted."""

import sys
from dataclasses import replace
from functools import partial
from typing import Any

from jaxft.config import Config, cli, help
from jaxft.config.used_by import UsedBy
from jaxft.core import backend
from jaxft.core.errors import UserError

COMMAND = help.Command(
    "jaxft teach",
    "CONFIG.yaml",
    common=(
        *("distill.teacher", "distill.matches", "distill.keep_logits", "distill.cache_dir", "distill.teacher_dtype"),
        *("data.train", "data.validation", "data.test", "task.name", "data.text", "data.label", "data.max_length"),
        *("model.path", "train.dtype"),
    ),
    uses=UsedBy.PLAN,
    note="The other options of jaxft train are accepted and checked, but do not change the outputs.",
)


def main(argv: list[str]) -> None:
    """Keep the outputs of the teacher, and print where they are and its scores."""
    cli.show_help(argv, COMMAND)
    teach(cli.load(argv, COMMAND))


def teach(config: Config) -> dict[str, dict[str, Any]]:
    """Compute the outputs of a config's teacher for the training data unless they are on disk, and print where they are.

    Returns:
      The scores of each teacher by its name, by split: validation and test, as far as there are any.

    Raises:
      UserError: if there is no teacher, or its outputs cannot be kept or written.
    """
    if config.distill.teacher is None:
        raise UserError("distill.teacher is null: must be the model whose outputs are to be kept")
    if config.distill.cache == "off":
        raise UserError("distill.cache is off: must be auto or on, or there is nothing to do")
    config = replace(config, distill=replace(config.distill, cache="on"))
    chosen = backend.start(distributed="off", precision=config.runtime.precision, compile_cache=config.runtime.compile_cache)
    from jaxft.run.setup import make_run
    from jaxft.teacher_cache.choice import choose
    from jaxft.teacher_cache.fill import taught
    from jaxft.training.display import shown_number

    say = partial(print, file=sys.stderr, flush=True)
    run = make_run(config)
    say(chosen.line())
    for line in taught(run, choose(run).stored, run.data["train"].examples, say, lasting=True)[1]:
        print(line, flush=True)
    found: dict[str, dict[str, Any]] = {}
    for teacher in run.teachers:
        found[teacher.name] = {name: _scores(run, teacher, name, say) for name in run.data if name != "train"}
        for name, scores in found[teacher.name].items():
            shown = [
                f"{x} {shown_number(scores[x])}" for x in dict.fromkeys((run.metric, "accuracy", "loss")) if x in scores
            ]
            print(f"{teacher.name} on {run.data[name].origin} ({name}): {', '.join(shown)}")
    return found


def _scores(run: Any, teacher: Any, split: str, say: Any) -> dict[str, Any]:
    """The scores of a teacher on a split; thresholds are tuned on it if the config says so."""
    from jaxft.evaluation.evaluator import make_evaluator, score
    from jaxft.parallel import sharding
    from jaxft.run.loss import make_loss
    from jaxft.run.setup import eval_sampler
    from jaxft.run.teachers import own_split
    from jaxft.step.parameters import Parameters

    model = teacher.model
    placed = Parameters(sharding.place_params(run.mesh, teacher.params))
    data = own_split(run.config, run.task, teacher, run.data[split])
    sampler = eval_sampler(data.examples, run.config, run.mesh)
    evaluator = make_evaluator(run.task, make_loss(model, run.task), data, sampler, placed, run.mesh, say)
    summary = evaluator.collect(placed)
    return score(run.task.tune(summary, data), summary, data)


if __name__ == "__main__":
    cli.run_main(main)
