"""jaxft export RUN_DIR --output DIR: a checkpoint of a run as a Hugging Face directory.

A run with LoRA or adapters gives an adapter directory; --merge folds LoRA into an ordinary one, of a run or of an adapter
directory.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxft.config import cli
from jaxft.core import backend, distributed
from jaxft.core.errors import UserError
from jaxft.core.urls import refuse_url
from jaxft.run import rundir


def main(argv: list[str]) -> None:
    """Write the best, the last or a given checkpoint."""
    parser = cli.Parser(prog="jaxft export", description=__doc__)
    parser.add_argument("run", metavar="RUN_DIR", help="run directory of jaxft.train (or an adapter directory to merge)")
    parser.add_argument("--output", metavar="DIR", help="directory to write (default: RUN_DIR/model)")
    parser.add_argument(
        "--step",
        default="selected",
        help="a checkpoint's step, best, last, or selected: as checkpoint.select says (default)",
    )
    parser.add_argument("--flax", action="store_true", help="also write flax_model.msgpack")
    parser.add_argument("--merge", action="store_true", help="fold LoRA into the kernels: a model without adapters")
    args = parser.parse_args(argv)
    directory = Path(args.run)
    refuse_url("RUN_DIR", args.run)
    refuse_url("--output", args.output)
    if args.output and Path(args.output).exists() and not Path(args.output).is_dir():
        raise UserError(f"--output {args.output}: is a file; give a directory")
    if args.merge and not args.output:
        raise UserError("--merge needs --output DIR: RUN_DIR/model stays an adapter directory")
    if args.merge and not rundir.is_run(directory):
        _merge_directory(args.run, Path(args.output), flax=args.flax)
        return
    if not rundir.is_run(directory):
        raise UserError(f"{args.run}: not a run directory (no {rundir.CONFIG})")
    config = replace(rundir.read_run_config(directory), output_dir=args.run)  # a run may be moved
    backend.start(compile_cache=config.runtime.compile_cache, distributed="off")
    from jaxft.run import record
    from jaxft.run.model_setup import make_model_setup
    from jaxft.run.setup import make_run
    from jaxft.run.state import model_params
    from jaxft.training.checkpoint import Checkpoints
    from jaxft.training.restore import stored_state

    known = record.read(directory)
    run: Any = make_model_setup(config, known) if known else make_run(config)
    checkpoints = Checkpoints(directory, keep=config.checkpoint.keep, read_only=True)
    try:
        steps = checkpoints.steps()
        if not steps:
            raise UserError(f"{args.run}: no checkpoint yet")
        checkpoints.check(steps[-1])
        state, frozen, progress = stored_state(run, checkpoints, steps[-1])
        wanted = args.step if args.step != "selected" else config.checkpoint.select
        if wanted == "best":
            wanted = progress.best_step or steps[-1]
        step = steps[-1] if wanted == "last" else _step(wanted)
        if step not in steps:
            raise UserError(f"{args.run}: no checkpoint of step {args.step}; there are {', '.join(map(str, steps))}")
        if step != steps[-1]:
            checkpoints.check(step)
            del state, frozen  # or there would be two of each in memory
            state, frozen, _ = stored_state(run, checkpoints, step)
        params = model_params(state, frozen)
        run = replace(run, task=_fitted(run, known, step, params))
        output = Path(args.output) if args.output else directory / rundir.MODEL
        export_params(run, params, output, flax=args.flax, merged=args.merge)
        print(f"wrote the model of step {step} to {output}")
    finally:
        checkpoints.close()


def export_params(run: Any, params: Any, output: Path, *, flax: bool, merged: bool = False) -> None:
    """All parameters of a run's model as a Hugging Face directory (main process writes).

    Of a run with adapters it is an adapter directory unless `merged`: a hundredth of the size, and evaluate and predict
    read it as they read a model's.
    """
    from jaxft.core import tree
    from jaxft.models.load_save import merge, save
    from jaxft.models.model import Origin
    from jaxft.parallel import sharding
    from jaxft.step.unused_embeddings import whole

    params = whole(sharding.to_host(replace(params, model=tree.recut(params.model, []))))
    if distributed.is_main_process():
        # Trained parameters are float32, whatever type the checkpoint had.
        origin = Origin({}, run.model.origin.buffers)
        config: dict[str, Any] = dict(run.model.hf_config)
        config |= {name: "float32" for name in ("dtype", "torch_dtype") if name in config}
        ours = dict(run.task.config_fields)
        if nested := ours.get("task_specific_params"):  # what is there of others stays
            ours["task_specific_params"] = {**(config.get("task_specific_params") or {}), **nested}
        config |= ours
        tokenizer = rundir.recorded_tokenizer(run.config) or run.model.directory
        model = replace(run.model, origin=origin, hf_config=config, directory=tokenizer)
        if merged:
            model, params = merge(model, params)
        save(model, params, output, flax=flax)


def _merge_directory(path: str, output: Path, *, flax: bool) -> None:
    """An adapter directory and its base as an ordinary model directory."""
    backend.start(distributed="off")
    from jaxft.models.load_save import load, merge, save

    save(*merge(*load(path)), output, flax=flax)
    print(f"wrote the merged model to {output}")


def _fitted(run: Any, known: Any, step: int, params: Any) -> Any:
    """The task with the thresholds of these parameters: as training has left them, or tuned on the validation data now."""
    from jaxft.evaluation.evaluator import make_evaluator
    from jaxft.run.setup import eval_sampler, make_loss, make_run
    from jaxft.tasks import task_class

    if known is None or not known.fitted:
        if known and (fields := known.thresholds.get(str(step))):
            labels = {} if run.task.labels is None else {"id2label": dict(enumerate(run.task.labels))}
            return task_class(run.config).restore(run.config, {**run.model.hf_config, **fields, **labels})
        whole = make_run(run.config) if known else run
        if not whole.task.fitted and "validation" in whole.data:
            data = whole.data["validation"]
            sampler, loss = eval_sampler(data.examples, run.config, run.mesh), make_loss(whole.model, whole.task)
            made = make_evaluator(whole.task, loss, data, sampler, params, run.mesh, print)
            return whole.task.fit(made.collect(params), data)
        return whole.task
    return run.task


def _step(text: Any) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"--step is {text}: give a number, best, last or selected") from None


if __name__ == "__main__":
    cli.run_main(main)
