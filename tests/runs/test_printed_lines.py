"""Commands print jaxft's own lines, and nothing of the libraries, with torch and without."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from jaxft import plan
from jaxft.config import cli
from tests.support import ROOT, tiny

# A process in which torch cannot be found, as if it was not installed.
PROGRAM = """
from importlib import util
find = util.find_spec
util.find_spec = lambda name, *more: None if name == "torch" else find(name, *more)
from jaxft.config import cli
from jaxft import __main__
cli.run_main({})
"""
OWN = (
    r"jax [\d.]+ on .*",
    r"model: .*; loaded \d+ tensors; newly initialised: .*",
    r"rule +trained .*",
    r"\(everything else\) .*",
    r"(parameters|words|examples|steps): .*",
    r"compiling (train|evaluation) step \d+ x \d+",
    r"compiled (train|evaluation) step \d+ x \d+ in [\d.]+ s",
    r"still compiling .*",
    r"step \d+ of 6: loss \d\.\d+, learning rate \S+, [\d,]+ tokens/s(, \d:\d\d left)?",
    r"step \d+: validation accuracy \d\.\d+( \(best\))?, loss \d\.\d+",
    r"time: .*; goodput \d+%",
    r"done in \d+ s: model of step .*",
    r"wrote \d+ predictions? to .*",
)


def printed(main: str, *argv: object) -> tuple[str, list[str]]:
    """Standard output, and the lines of standard error, of a process without torch."""
    told = {"OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM"}
    names = ("TRANSFORMERS", "DATASETS_V", "HF_HUB_V", "HF_HUB_D", "PYTHONW")
    env = {name: value for name, value in os.environ.items() if name not in told and not name.startswith(names)}
    command = [sys.executable, "-c", PROGRAM.format(main), *map(str, argv)]
    done = subprocess.run(command, cwd=ROOT, env=env | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.splitlines()


def test_libraries_are_silent():
    """Neither transformers' messages nor warnings are printed, unless --debug asks for everything."""
    main = "lambda argv: (__import__('transformers'), __import__('warnings').warn('something'))"
    assert printed(main) == ("", [])
    assert any("PyTorch was not found" in line for line in printed(main, "--debug")[1])


@pytest.mark.slow
def test_commands_print_only_their_own_lines(tiny_data, tmp_path):
    """In processes of their own; training prints a line every `log.every` steps."""
    model = tiny.write_model(tmp_path / "model", num_hidden_layers=1)
    data = [f"--data.{name}={tiny_data / file}.csv" for name, file in (("train", "train"), ("validation", "dev"))]
    short = ["--data.max_length=32", "--data.max_train_examples=64", "--log.every=2"]
    _, lines = printed("__main__.main", "train", f"--model.path={model}", *data, *short, f"--output_dir={tmp_path / 'run'}")
    for at in ("evaluate", "predict"):
        files = [data[1]] if at == "evaluate" else ["--input", tiny_data / "test.csv", "--output", tmp_path / "out.jsonl"]
        lines += printed("__main__.main", at, tmp_path / "run", *files)[1]
    assert not [line for line in lines if not any(re.fullmatch(known, line) for known in OWN)]
    training = [line for line in lines if " of 6: " in line]
    assert [line.split()[1] for line in training] == ["2", "4", "6"]
    assert "left" not in training[-1]


def test_lines_on_augmentation():
    """The share of augmentation is of labelled examples; cut-off is drawn in every step, and for all of them."""
    steps = '--augment.steps=[{"step": "delete"}, {"step": "swap", "rate": 0.2}]'
    options = [steps, "--augment.share=0", "--augment.cutoff_span=0.2", "--unlabelled.data=texts.csv"]
    config = cli.parse({}, options, origin="test")
    assert plan._changes(SimpleNamespace(config=config)) == [
        "augmentation: delete 0.1, swap 0.2; 0% of the labelled examples, anew in every epoch",
        "cut-off: cutoff_span 0.2; 0% of the examples, anew in every step",
        "texts without labels: 3 per labelled example, each with an augmented version; weight of the consistency loss 1",
    ]
