"""Write a model as an artefact: its file, the tokenizer, and export.json with what the replay found."""

import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxft
from jaxft.config import Config
from jaxft.core.errors import UserError
from jaxft.core.model_source import tokenizer_files
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.deploy import function, stablehlo
from jaxft.deploy.replay import ROWS, Arrays, Run, difference, random_inputs, replayed
from jaxft.deploy.scores import scores_beside
from jaxft.evaluation.held_out import open_with_rows
from jaxft.evaluation.inference import OpenedModel, evaluate
from jaxft.models import forward
from jaxft.models.load_save import load, merge
from jaxft.models.model import MAIN, Model
from jaxft.models.weights.tensor_files import write_directory, write_json
from jaxft.run import rundir
from jaxft.run.trained_models import model_directory

TOLERANCE = 1e-5  # of a float32 artefact: the largest difference, relative to the largest output
RECORD = "export.json"
TOKENIZER = "tokenizer.json"
FORMATS = ("onnx", "stablehlo")
LONGEST = 512  # tokens of a text for a model without a run, if its positions have no smaller limit


@dataclass(frozen=True)
class Request:
    """What to write.

    Attributes:
      path: RUN_OR_MODEL_DIR of one task.
      config: from `rundir.config_of`.
      output: the directory to write.
      format: one of FORMATS.
      dtype: of matrix products, or their weights; float32 must equal the model, others may lose `max_drop` of its score.
      max_drop: the largest loss of the main score that a variant may have, in the score's unit.
      arguments: of the command, which writes the artefact again.
    """

    path: str
    config: Config
    output: Path
    format: str
    dtype: str
    max_drop: float
    arguments: tuple[str, ...]


def write_artefact(request: Request, say: Callable[[str], None]) -> dict[str, Any]:
    """Write a directory with the artefact, and return the content of its export.json; `say` is called with messages.

    Raises:
      UserError: for a model that the format does not have, or an artefact whose outputs are not the model's. Nothing is
        written then.
    """
    write, dtypes = _format(request.format)
    if request.dtype not in dtypes:
        raise UserError(f"--dtype {request.dtype}: --format {request.format} has {', '.join(dtypes)}")
    config = replace(request.config, train=replace(request.config.train, dtype="float32"))
    split, exact = _split(config), request.dtype == "float32"
    if not exact and not split:
        raise UserError(f"--dtype {request.dtype} is measured against float32: give --data.validation FILE")
    if exact:
        most = config.data.max_eval_examples
        config = replace(config, data=replace(config.data, max_eval_examples=min(most or ROWS, ROWS)))
    opened: Any = None
    if split:
        opened, rows = open_with_rows(request.path, config, split)
        model, params = opened.model, jax.tree.map(np.asarray, opened.params)
    else:
        rows, (model, params) = None, load(model_directory(request.path), revision=config.model.revision)
    tokenizer = model.directory
    if model.encoder.config.lora:
        model, params = merge(model, params)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{request.output.name}.", dir=_parent(request.output)) as folder:
            run, details = write(model, params, request.dtype, Path(folder))
            record = _about(request, model) | details
            record["versions"] = _versions() | record["versions"]
            if split and not exact:
                parts = (opened, rows, split, run, request.dtype, request.max_drop, say)
                record["scores"], inputs = scores_beside(*parts)
            elif split:
                inputs = _held_out_inputs(opened, rows, split, run, say)
            else:
                inputs = random_inputs(model)
            of = f"{len(inputs['input_ids'])} rows of {getattr(opened.config.data, split)}" if split else "random ids"
            expected = forward.forward(model, params, inputs)
            record["replay"] = {"inputs": of, **difference(model, run(inputs), expected, inputs["attention_mask"])}
            if exact:
                _check(record["replay"])
            write_json(record, Path(folder, RECORD))
            if tokenizer:
                _write_tokenizer(tokenizer, Path(folder))
            write_json(dict(model.hf_config), Path(folder, "config.json"))
            written = sorted(Path(folder).iterdir(), key=lambda path: path.name == RECORD)  # the record comes last
            write_directory(request.output, {path.name: partial(shutil.move, path) for path in written})
    except OSError as error:
        raise UserError(f"{request.output}: cannot be written: {error.strerror or error}") from error
    return record


def _format(name: str) -> tuple[Callable[..., tuple[Run, dict[str, Any]]], tuple[str, ...]]:
    """The function that writes a format, and the types that it has.

    Raises:
      UserError: if its packages are not installed.
    """
    if name == "stablehlo":
        return stablehlo.write, stablehlo.DTYPES
    try:
        from jaxft.deploy.onnx import artefact
    except ImportError as error:
        raise UserError(f"--format {name} needs the package {error.name}: pip install 'jaxft[export]'") from error
    return artefact.write, artefact.DTYPES


def _write_tokenizer(source: Path, folder: Path) -> None:
    """The tokenizer's files, and tokenizer.json, which the package tokenizers reads, if the source has none."""
    for path in tokenizer_files(source):
        shutil.copyfile(path, folder / path.name)
    fast = None if (folder / TOKENIZER).exists() else getattr(load_tokenizer(source), "backend_tokenizer", None)
    if fast is not None:
        fast.save(str(folder / TOKENIZER))


def _parent(output: Path) -> Path:
    """The folder of the output, which is made."""
    output.parent.mkdir(parents=True, exist_ok=True)
    return output.parent


def _split(config: Config) -> str | None:
    """The split whose rows are replayed; None without data."""
    if config.data.validation or rundir.has_set_aside(config):
        return "validation"
    return "test" if config.data.test else None


def _held_out_inputs(opened: OpenedModel, rows: Any, split: str, run: Run, say: Callable[[str], None]) -> Arrays:
    """The inputs that the artefact has had in an evaluation of the rows."""
    tested = replayed(opened.model, run)
    evaluate(replace(opened, model=tested), rows, split, say)
    return tested.seen[0]


def _check(replay: Mapping[str, Any]) -> None:
    """Refuse a float32 artefact that is not the model."""
    if not replay["relative"] <= TOLERANCE:
        raise UserError(
            f"the outputs of the artefact differ from the model's by {replay['relative']:.1e} of the largest one, more than "
            f"{TOLERANCE:.0e}, on {replay['inputs']}: this is a fault of jaxft; nothing was written"
        )


def _about(request: Request, model: Model) -> dict[str, Any]:
    own = rundir.is_run(rundir.run_of(request.path))
    longest, positions = request.config.data.max_length if own else LONGEST, model.encoder.config.usable_positions
    return {
        "format": request.format,
        "dtype": request.dtype,
        "task": model.heads[MAIN].kind,
        "inputs": {x: ["int64", *function.input_shape(model)] for x in function.input_names(model)},
        "outputs": function.output_names(model),
        "max_length": longest if positions is None else min(longest, positions),
        "command": f"python -m jaxft.export {shlex.join(request.arguments)}",
    }


def _versions() -> dict[str, str]:
    return {"jaxft": jaxft.__version__, "jax": jax.__version__, "numpy": np.__version__}
