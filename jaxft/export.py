"""jaxft export RUN_DIR --output DIR: write a checkpoint of a run as a Hugging Face directory.

A run with LoRA or adapters gives an adapter directory; --merge merges LoRA into the base model and writes an ordinary model
directory, from a run or from an adapter directory. --format onnx or stablehlo writes a model for programs without jaxft,
from a run or a model directory, with the rows of --data.validation, by default the run's, as a test (docs/export.md).
"""

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jaxft.config import cli
from jaxft.config.of_tasks import of_tasks
from jaxft.core import backend, distributed
from jaxft.core.errors import UserError
from jaxft.core.model_source import resolve
from jaxft.core.paths import check_url, is_url
from jaxft.core.upload import check_writable, written_directory
from jaxft.run import rundir
from jaxft.run.trained_models import fetched, model_directory, model_of_task

_FORMATS = ("onnx", "stablehlo")


def main(argv: list[str]) -> None:
    """Export the best, the last or a given checkpoint."""
    parser = cli.Parser(prog="jaxft export", description=__doc__)
    parser.add_argument("run", metavar="RUN_DIR", help="run directory of jaxft.train (or an adapter directory to merge)")
    parser.add_argument("--output", metavar="DIR", help="directory to write (default: RUN_DIR/model)")
    step_help = "the step of a checkpoint, best, last, or selected (default: selected, as checkpoint.select says)"
    parser.add_argument("--step", default="selected", help=step_help)
    parser.add_argument("--flax", action="store_true", help="also write flax_model.msgpack")
    parser.add_argument("--merge", action="store_true", help="merge LoRA into the kernels: a model without adapters")
    parser.add_argument("--format", default="hf", choices=["hf", *_FORMATS], help="default: hf, a Hugging Face directory")
    parser.add_argument("--dtype", default="float32", help="of another format: float32, float16, bfloat16 or int8")
    drop_help = "refuse a smaller dtype whose score on the validation data is lower by more than this (default: 0.01)"
    parser.add_argument("--max_drop", type=float, default=0.01, metavar="SCORE", help=drop_help)
    parser.add_argument("--task", metavar="NAME", help="task of a run of several, for another format than hf")
    args, overrides = parser.parse_beside_config(argv)
    for option, value in (("RUN_DIR", args.run), ("--output", args.output)):
        check_url(option, value)
    _check_directory(args.output)
    if args.format != "hf":
        _write_artefact(args, overrides, argv)
        return
    if overrides and not overrides[0].startswith("-"):
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    if overrides or args.dtype != "float32" or args.task:
        option = overrides[0] if overrides else "--dtype" if args.dtype != "float32" else "--task"
        raise UserError(f"{option} is an option of --format {' and '.join(_FORMATS)}, not of a Hugging Face directory")
    if args.merge and not args.output:
        raise UserError("--merge needs --output DIR: RUN_DIR/model stays an adapter directory")
    from jaxft.training.remote_run import with_checkpoints

    given, args.run = args.run, with_checkpoints(args.run)
    with written_directory(args.output or f"{given}/{rundir.MODEL}") as output:
        written = _export(args, output)
    print(f"wrote {written} to {args.output or f'{given}/{rundir.MODEL}'}")


def _export(args: argparse.Namespace, output: Path) -> str:
    """Write the model as the arguments say, and return which one it is, in words."""
    directory = Path(args.run)
    if not rundir.is_run(directory):
        if not args.merge:
            raise UserError(f"{args.run}: not a run directory (no {rundir.CONFIG})")
        backend.start(distributed="off")
        from jaxft.models.load_save import load, merge, save

        save(*merge(*load(args.run)), output, flax=args.flax, checksums=True)
        return "the merged model"
    config = replace(rundir.read_run_config(directory), output_dir=args.run)  # the run may have been moved
    backend.start(compile_cache=config.runtime.compile_cache, distributed="off")
    from jaxft.report.run_files import read_run
    from jaxft.run import record
    from jaxft.run.model_setup import make_model_setup
    from jaxft.run.setup import make_run
    from jaxft.run.state import model_params
    from jaxft.training.checkpoint import Checkpoints

    known = record.read(directory)
    run: Any = make_model_setup(config, known) if known else make_run(config)
    checkpoints = Checkpoints(directory, keep=config.checkpoint.keep, read_only=True)
    try:
        steps = checkpoints.steps()
        if not steps:
            raise UserError(f"{args.run}: no checkpoint yet")
        checkpoints.check(steps[-1])
        state, frozen, progress = checkpoints.restore_run(run, steps[-1])
        wanted = args.step if args.step != "selected" else config.checkpoint.select
        if wanted == "best":
            wanted = progress.best_step or steps[-1]
        step = steps[-1] if wanted == "last" else _step(wanted)
        if step not in steps:
            raise UserError(f"{args.run}: no checkpoint of step {args.step}; there are {', '.join(map(str, steps))}")
        if step != steps[-1]:
            checkpoints.check(step)
            del state, frozen  # or there would be two of each in memory
            state, frozen, _ = checkpoints.restore_run(run, step)
        params = model_params(state, frozen)
        run = replace(run, task=_tuned_task(run, known, step, params))
        final = read_run(directory).final
        results = final if final.get("selected_step") == step else {}
        export_params(run, params, output, flax=args.flax, merged=args.merge, results=results)
        return f"the model of step {step}"
    finally:
        checkpoints.close()


def _check_directory(output: str | None) -> None:
    """Raise a UserError if --output is a file, here or at a URL."""
    if output and is_url(output):
        found = check_writable("--output", output)
        is_file = bool(found) and found["type"] != "directory"
    else:
        is_file = bool(output) and Path(output).exists() and not Path(output).is_dir()
    if is_file:
        raise UserError(f"--output {output}: is a file; give a directory")


def _write_artefact(args: Any, overrides: list[str], argv: list[str]) -> None:
    """Write the model in another format than Hugging Face's."""
    for name, given in (("--step", args.step != "selected"), ("--flax", args.flax), ("--merge", args.merge)):
        if given:
            raise UserError(
                f"{name} is of a Hugging Face directory: write one with {name} and --output DIR first, and then give DIR"
            )
    if not 0 <= args.max_drop < math.inf:
        raise UserError(f"--max_drop is {args.max_drop}: must be a number, 0 or more")
    if not args.output:
        raise UserError(f"--format {args.format} needs --output DIR")
    args.run = fetched(args.run)
    config = rundir.config_of(args.run, overrides, task=args.task)
    path = model_of_task(args.run, args.task)
    source = resolve(model_directory(path), config.model.revision)
    if source.resolve() == Path(args.output).resolve():
        raise UserError(f"--output {args.output}: is the model itself; give another directory")
    backend.start(precision="float32", compile_cache=config.runtime.compile_cache, distributed="off")
    from jaxft.deploy.artefact import Request, write_artefact

    with written_directory(args.output) as output:
        request = Request(path, config, output, args.format, args.dtype, args.max_drop, tuple(argv))
        record = write_artefact(request, partial(print, file=sys.stderr))
    if scores := record.get("scores"):
        both = " and ".join(f"{scores[dtype]:.4g} in {dtype}" for dtype in ("float32", args.dtype))
        print(f"{scores['metric']} on {scores['data']}: {both}")
    replay = record["replay"]
    print(f"wrote {args.output}: the largest difference from the model is {replay['largest']:.1e} on {replay['inputs']}")


def export_params(
    run: Any,
    params: Any,
    output: Path,
    *,
    flax: bool = False,
    merged: bool = False,
    results: Mapping[str, Any] | None = None,
) -> None:
    """Write all parameters of a run's model as a Hugging Face directory; only the main process writes.

    Args:
      run: from `make_run`.
      params: from `model_params`.
      output: the directory.
      flax: also write flax_model.msgpack.
      merged: merge LoRA into the kernels.
      results: the scores of these parameters, for the model card.

    Raises:
      UserError: if the directory cannot be written.

    For a run with adapters this is an adapter directory unless `merged`. It has a hundredth of the size, and evaluate and
    predict read it like a model directory. Of several tasks, each has a directory of its own in this one.
    """
    from jaxft.core import tree
    from jaxft.models.several_heads import with_one_head
    from jaxft.parallel import sharding
    from jaxft.step.unused_embeddings import join_unused
    from jaxft.tasks.several import SeveralTasks

    params = join_unused(sharding.to_host(replace(params, model=tree.recut(params.model, []))))
    if not distributed.is_main_process():
        return
    if not isinstance(run.task, SeveralTasks):
        _write_model(run, run.model, params, output, flax=flax, merged=merged, results=results or {})
        return
    configs = of_tasks(run.config)
    for name, task in run.task.tasks.items():
        part = replace(run, config=configs[name], task=task)
        own = {x.replace(f"/{name}/", "/", 1): score for x, score in (results or {}).items() if f"/{name}/" in x}
        _write_model(part, *with_one_head(run.model, params, name), output / name, flax=flax, merged=merged, results=own)


def _write_model(
    run: Any, model: Any, params: Any, output: Path, *, flax: bool, merged: bool, results: Mapping[str, Any]
) -> None:
    """Write the directory of a model with one head, and its card; the arguments are as in `export_params`."""
    from jaxft.models.load_save import merge, save
    from jaxft.models.model import Origin
    from jaxft.report.model_card import write_card
    from jaxft.run.stored_cleaning import with_cleaning

    config: dict[str, Any] = dict(model.hf_config)
    # Trained parameters are float32, whatever the type in the checkpoint.
    config |= {name: "float32" for name in ("dtype", "torch_dtype") if name in config}
    others = config.get("task_specific_params")
    config |= run.task.config_fields
    if others:  # entries of other programs are kept
        config["task_specific_params"] = others | config["task_specific_params"]
    config = with_cleaning(config, run.config)
    tokenizer = rundir.recorded_tokenizer(run.config) or model.directory
    model = replace(model, origin=Origin({}, model.origin.buffers), hf_config=config, directory=tokenizer)
    if merged:
        model, params = merge(model, params)
    save(model, params, output, flax=flax, checksums=True)
    write_card(output, run.config, run.task.kind, results, adapter=model.adapted is not None)


def _tuned_task(run: Any, known: Any, step: int, params: Any) -> Any:
    """The task with the thresholds for these parameters, from the record of the run or tuned now on its validation data."""
    from jaxft.evaluation.evaluator import make_evaluator
    from jaxft.run.loss import make_loss
    from jaxft.run.restored_task import restored
    from jaxft.run.setup import eval_sampler, make_run

    if known and known.fitted:
        return run.task
    if known and (fields := known.thresholds.get(str(step))):
        return restored(run.config, run.model.hf_config, known, fields)
    whole = make_run(run.config) if known else run
    if whole.task.tuned or "validation" not in whole.data:
        return whole.task
    data = whole.data["validation"]
    sampler, loss = eval_sampler(data.examples, run.config, run.mesh), make_loss(whole.model, whole.task)
    evaluator = make_evaluator(whole.task, loss, data, sampler, params, run.mesh, print)
    return whole.task.tune(evaluator.collect(params), data)


def _step(text: Any) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"--step is {text}: give a number, best, last or selected") from None


if __name__ == "__main__":
    cli.run_main(main)
