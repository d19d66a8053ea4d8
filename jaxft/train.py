"""jaxft train CONFIG.yaml [--section.field value ...]: fine-tune and evaluate a model, and write a model directory."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxft.config import Config, cli
from jaxft.core import backend, distributed, watchdog
from jaxft.core.distributed import by_main_process, check_shared
from jaxft.core.errors import UserError
from jaxft.core.phases import SAVING, Clock, measured, phase
from jaxft.core.signals import Watch
from jaxft.core.standard_error import lasting
from jaxft.run import rundir
from jaxft.run.claim import Claim


def main(argv: list[str]) -> dict[str, Any]:
    """Run the command and return the final scores, including `test/...` if there is a test file."""
    return train(cli.load(argv), watched=True)


def train(
    config: Config, *, said: set[str] | None = None, callbacks: Sequence[Any] = (), watched: bool = False
) -> dict[str, Any]:
    """Train as the config says; if its output directory holds this run already, resume it.

    Args:
      config: of the run.
      callbacks: `jaxft.Callback` objects in addition to those that the config names.
      said: lines of the start-up that an earlier run of the same series has printed, which are not repeated; those of this
        run are added.
      watched: whether the process is ended if nothing happens for `runtime.stall` seconds; several processes always are.

    Raises:
      Stopped: after SIGTERM, SIGHUP or Ctrl-C; a checkpoint of the current step has been saved.
    """
    with lasting(), measured(Clock()) as clock:
        runtime = config.runtime
        chosen = backend.start(
            distributed=runtime.distributed,
            precision=runtime.precision,
            compile_cache=runtime.compile_cache,
            start_timeout=runtime.start_timeout,
            heartbeat_timeout=runtime.heartbeat_timeout,
        )
        dog = watchdog.of_run(stall=runtime.stall, heartbeat=runtime.heartbeat_timeout, alone=watched)
        with Watch() as watch, dog:
            return _start(config, chosen, clock, watch, set() if said is None else said, callbacks)


def _start(
    config: Config, chosen: backend.Runtime, clock: Clock, watch: Watch, said: set[str], callbacks: Sequence[Any]
) -> dict[str, Any]:
    """Claim the run directory, read the data, load the model, and train."""
    begin = time.perf_counter()
    from jaxft.run.agreement import check_same, check_same_examples
    from jaxft.run.setup import make_run
    from jaxft.teacher_cache.choice import choose
    from jaxft.teacher_cache.fill import check_directory
    from jaxft.training.callbacks import check_callbacks, load_callbacks
    from jaxft.training.display import named_phases
    from jaxft.training.mirror import mirrored
    from jaxft.training.trackers import check_installed

    check_same(config)
    by_main_process(lambda: check_installed(config.log))
    check_callbacks(callbacks)  # a wrong one is refused before the long reading
    callbacks = [*load_callbacks(config), *callbacks]
    if distributed.is_main_process():
        for line in _new([chosen.line()], said):
            print(line, file=sys.stderr)
    # Only the main process claims the directory; the others stop if it is refused.
    with (
        named_phases(config.log, clock),
        mirrored(config) as (placed, mirror),
        by_main_process(lambda: Claim(placed, mirror)) or Claim(placed) as claim,
    ):
        check_shared(Path(placed.output_dir))
        run = make_run(placed)
        for split in run.data.values():
            check_same_examples(split.examples, split.origin)
        if run.epochs and run.epochs.first:  # with texts from other files
            check_same_examples(run.epochs.first[0], run.data["train"].origin)
        check_directory(run, choose(run).stored)
        by_main_process(lambda: claim.settle(run.own_tokenizer, run.texts()))
        return _train(run, claim, begin, watch, said, callbacks)


def _new(lines: list[str], said: set[str]) -> list[str]:
    """The lines that were not said before, which they are from now on."""
    new = [line for line in lines if line not in said]
    said.update(new)
    return new


def _train(run: Any, claim: Claim, begin: float, watch: Watch, said: set[str], callbacks: Sequence[Any]) -> dict[str, Any]:
    """Train, evaluate the selected model and export it."""
    from jaxft.export import export_params
    from jaxft.plan import summary
    from jaxft.preflight import figures as run_figures
    from jaxft.report.page import FILE as REPORT
    from jaxft.run import record
    from jaxft.training.display import shown_number
    from jaxft.training.loop import Loop
    from jaxft.training.result_files import saying_faults
    from jaxft.training.teacher_comparison import compare_with_teachers

    config, directory = run.config, Path(run.config.output_dir)
    loop = Loop(run, directory, claim, callbacks)
    try:
        if config.log.report and distributed.is_main_process():
            path = directory / run_figures.FILE
            with saying_faults(path, loop.say):
                run_figures.write(run, path)
        for line in [*_new(summary(run), said), *([f"resuming at step {loop.resumed}"] if loop.resumed else [])]:
            loop.say(line)
        loop.train(watch)
        chosen_step = loop.select()
        results = {}
        for split in ("validation", "test"):
            if split in run.data:
                scores = loop.scores(split)
                results |= {f"{'eval' if split == 'validation' else split}/{k}": v for k, v in scores.items()}
        compared = compare_with_teachers(run, loop.evaluations, loop.params, loop.frozen.teachers, results, loop.say)
        results |= compared.results() if compared else {}
        with phase(SAVING):
            _write_predictions(loop)
        loop.end(chosen_step, results)
        tuned = replace(run, task=loop.evaluations.task)
        if not run.task.tuned and distributed.is_main_process():
            record.add_thresholds(directory, chosen_step, loop.evaluations.task.config_fields)
        with phase(SAVING):
            export_params(tuned, loop.params, directory / rundir.MODEL, flax=config.checkpoint.flax, results=results)
    finally:
        loop.close()
    loop.say(loop.times.line())
    shown = {f"{split}/{name}" for split in ("eval", "test") for name in (run.metric, "accuracy")}
    figures = ", ".join(f"{name} {shown_number(value)}" for name, value in results.items() if name in shown)
    loop.say(
        f"done in {time.perf_counter() - begin:.0f} s: model of step {chosen_step} in {directory / rundir.MODEL}"
        f"{'; ' + figures if figures else ''}{f'; report in {directory / REPORT}' if config.log.report else ''}"
    )
    for line in compared.lines() if compared else []:
        loop.say(line)
    if lost := loop.checkpoints.unsaved:
        raise UserError(
            f"{directory}: {rundir.MODEL}/ is written, but the checkpoint of step {lost.step} is not: {lost.why}; the same "
            f"command trains from step {loop.checkpoints.latest() or 0} on and writes it"
        )
    return results


def _write_predictions(loop: Any) -> None:
    """Write the predictions of the splits that were evaluated last; only the main process writes."""
    from jaxft.evaluation.labelled_predictions import labelled_predictions, parts_of, path_of, write_rows
    from jaxft.training.result_files import saying_faults

    if not distributed.is_main_process():
        return
    for split, summary in loop.evaluations.summaries.items():
        if not loop.evaluations.keeps_predictions(split):
            continue
        for part in parts_of(loop.evaluations.task, summary, loop.run.data[split], loop.config):
            path = path_of(loop.directory, split, part.name)
            with saying_faults(path, loop.say):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_rows(str(path), labelled_predictions(part.task, part.summary, part.data, part.config, split))


if __name__ == "__main__":
    cli.run_main(main)
