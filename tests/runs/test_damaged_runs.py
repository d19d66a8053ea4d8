"""Files of a finished run are damaged, one at a time: what is read is right, or a line or an error names the file."""

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import jaxft
from jaxft import evaluate
from jaxft.config import cli
from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.core.model_source import tokenizer_files
from jaxft.run import input_files, record, rundir
from jaxft.run.claim import Claim
from jaxft.run.setup import Run, make_run
from jaxft.train import train
from jaxft.training import integrity
from jaxft.training.checkpoint import Checkpoints
from tests.support import tiny

DAMAGES, HOW = 200, ("flip", "flip", "letter", "truncate", "empty", "delete", "repeat")
# What a run tells people about itself, and reads again only for that.
REPORTS = {
    "README.md",
    "all_results.json",
    "figures.json",
    "metrics.jsonl",
    "report.html",
    "times.json",
    "trainer_state.json",
}
Values = dict[str, Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A finished run with frozen parameters, held-out rows and a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("damaged")
    tiny.write_rows(folder / "train.csv", 60)
    model = tiny.write_model(folder / "start", labels=tiny.LABELS)
    config = tiny.run_config(
        model,
        folder,
        folder / "run",
        model=tiny.NO_DROPOUT,
        data={"validation": None, "validation_share": 0.25},
        vocabulary={"words": ["torrent", "meadow"]},
        plan={"preset": "head"},
        train={"epochs": 2, "batch_size": 16},
        checkpoint={"every": 2, "keep": 2},
        log={"every": 1, "predictions": False},
    )
    train(config)
    return make_run(config)


def leaves(values: Any) -> list[bytes]:
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(values)]


def config_of(run: Run, directory: Path) -> Any:
    return cli.dump(rundir.read_run_config(directory))


def record_of(run: Run, directory: Path) -> Any:
    known = record.read(directory)
    return known and known.text()


def inputs_of(run: Run, directory: Path) -> Any:
    with Claim(replace(run.config, output_dir=str(directory))):  # as a run that resumes begins
        return input_files.changes(directory, input_files.read(run.config))


def tokenizer_of(run: Run, directory: Path) -> Any:
    rundir.check_unchanged(directory, "tokenizer/*")
    return {path.name: path.read_bytes() for path in tokenizer_files(directory / "tokenizer")}


def scores_of(run: Run, directory: Path) -> Any:
    return evaluate.main([str(directory)])


def model_of(run: Run, directory: Path) -> Any:
    model, params = jaxft.load(str(directory / "model"))
    files = {path.name: path.read_bytes() for path in tokenizer_files(directory / "model")}
    return model.hf_config, {path: x.tobytes() for path, x in tree.flatten(params).items()}, files


def state_of(run: Run, directory: Path) -> Any:
    """(step, bits of the state, of the frozen parameters and of the progress) where the run would go on."""
    step = integrity.newest_usable(directory, best=True, say=print)
    checkpoints = Checkpoints(directory, keep=9, read_only=True)
    try:
        state, frozen, progress = checkpoints.restore_run(run, step or 0)
    finally:
        checkpoints.close()
    values = [state.params, state.opt_state, state.step, frozen.as_stored()]
    return step, leaves(values), progress


def probe_of(file: str) -> Callable[[Run, Path], Any]:
    """What reads a file of a run."""
    first = file.partition("/")[0]
    small = {"config.yaml": config_of, "run.json": record_of, "inputs.json": inputs_of, "tokenizer": tokenizer_of}
    readers = {"validation_rows.txt": scores_of, "model": model_of, "checkpoints": state_of, "frozen": state_of}
    return {**small, **readers, "checksums.json": config_of}[first]


def damage(path: Path, how: str, rng: random.Random) -> None:
    """Flip a bit of a file or a byte to a digit or letter, truncate, empty or delete it, or repeat its first half."""
    data = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
        return
    if how == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "letter":
        data[rng.randrange(len(data))] = rng.choice(b"0123456789abcdef")
    elif how == "repeat":
        half = len(data) // 2
        data[half : 2 * half] = data[:half]
    else:
        del data[rng.randrange(len(data)) if how == "truncate" else 0 :]
    path.unlink()
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_no_damage_gives_a_wrong_value_in_silence(run, tmp_path, capfd, part):
    whole = Path(run.config.output_dir)
    files = sorted(path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file())
    files = [file for file in files if Path(file).name not in REPORTS]
    assert {x.partition("/")[0] for x in files} >= {
        "checkpoints",
        "checksums.json",
        "config.yaml",
        "frozen",
        "inputs.json",
        "model",
    }
    true = {probe: probe(run, whole) for probe in {probe_of(file) for file in files}}
    rng = random.Random(part)
    last = true[state_of][0]
    states = {last: true[state_of]}
    for number in range(part, DAMAGES, 2):
        directory = shutil.copytree(whole, tmp_path / str(number))  # what is said once is said of a directory
        file, how = files[number // 2 % len(files)], rng.choice(HOW)
        before = (directory / file).read_bytes()
        if before:
            damage(directory / file, how, rng)
        changed = not (directory / file).exists() or (directory / file).read_bytes() != before
        capfd.readouterr()
        probe = probe_of(file)
        found, said = outcome(probe, run, directory)
        said += "".join(capfd.readouterr())
        named = Path(file).name in said
        if found is None:
            assert changed, f"{how} {file}: {said}"
            assert named, f"{how} {file}: {said}"
        elif probe is state_of:
            step = found[0]
            states[step] = states.get(step) or state_at(step, run, tmp_path / "earlier")
            assert found == states[step], f"{how} {file}"
            assert step == last or named, f"{how} {file}: {said}"
        else:
            assert found == true[probe] or named, f"{how} {file}: {said}"
        shutil.rmtree(directory)


def outcome(probe: Callable[[Run, Path], Any], run: Run, directory: Path) -> tuple[Any, str]:
    """(what was read, or None after an error in one line, what it says)."""
    try:
        return probe(run, directory), ""
    except UserError as error:
        return None, str(error)


def state_at(step: int, run: Run, copy: Path) -> Any:
    """The state of the whole run at a step."""
    shutil.copytree(run.config.output_dir, copy)
    for later in integrity.steps(copy):
        if later > step:
            shutil.rmtree(copy / f"checkpoints/{later}")
    found = state_of(run, copy)
    shutil.rmtree(copy)
    return found
