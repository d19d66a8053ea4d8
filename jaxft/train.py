"""python -m jaxft.train CONFIG.yaml [--section.field value ...]: fine-tune, evaluate, leave a model directory."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxft import cli, rundir, runtime
from jaxft.config import Config
from jaxft.processes import by_main_process, check_shared
from jaxft.signals import Watch


def main(argv: list[str]) -> dict[str, Any]:
    """Run the command; returns the final scores, `test/...` among them when there is a test file."""
    return train(cli.load(argv, prog="python -m jaxft.train"))


def train(config: Config) -> dict[str, Any]:
    """Train as the config says, in its output directory; resume what is there.

    Raises:
      Stopped: after SIGTERM, SIGHUP or Ctrl-C, with a checkpoint of the step that the run was in.
    """
    chosen = runtime.start(
        distributed=config.runtime.distributed,
        precision=config.runtime.precision,
        compile_cache=config.runtime.compile_cache,
    )
    with Watch() as watch:
        return _train(config, chosen, watch)


def _train(config: Config, chosen: runtime.Runtime, watch: Watch) -> dict[str, Any]:
    begin = time.perf_counter()
    from jaxft.export import export_params
    from jaxft.loop import Trainer
    from jaxft.plan import summary
    from jaxft.setup import make_run

    if runtime.is_main_process():
        print(chosen.line(), file=sys.stderr)
    directory = Path(config.output_dir)
    resuming = by_main_process(lambda: rundir.check_claim(config), True)
    check_shared(directory)
    run = make_run(config)
    if not resuming:
        rundir.claim(config, run.own_tokenizer)
    runtime.barrier("claimed")
    trainer = Trainer(run, directory)
    try:
        for line in [*summary(run), *([f"resuming at step {trainer.resumed}"] if trainer.resumed else [])]:
            trainer.journal.say(line)
        trainer.train(watch)
        chosen_step = trainer.select()
        results = {}
        for split in ("validation", "test"):
            if split in run.data:
                scores = trainer.scores(split)
                results |= {f"{'eval' if split == 'validation' else split}/{k}": v for k, v in scores.items()}
        if results:
            trainer.journal.write({"step": trainer.last_step, "selected_step": chosen_step, "final": True, **results})
        fitted = replace(run, task=trainer.task)
        export_params(fitted, trainer.params, directory / rundir.MODEL, flax=config.checkpoint.flax)
    finally:
        trainer.close()
    shown = {f"{split}/{name}" for split in ("eval", "test") for name in (run.metric, "accuracy")}
    figures = ", ".join(f"{name} {value:.4f}" for name, value in results.items() if name in shown)
    trainer.journal.say(
        f"done in {time.perf_counter() - begin:.0f} s: model of step {chosen_step} in {directory / rundir.MODEL}"
        f"{'; ' + figures if figures else ''}"
    )
    return results


if __name__ == "__main__":
    cli.run_main(main)
