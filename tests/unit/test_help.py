"""The command `jaxft` and its help, on a screen, a section or a single option."""

import dataclasses
import re
import subprocess
import sys
import tomllib

import pytest

from jaxft import __main__ as command
from jaxft import evaluate, plan, train
from jaxft.config import Config, cli, help
from jaxft.config.used_by import UsedBy
from jaxft.optim.named_optimizers import NAMED
from tests.support import ROOT

SECTIONS = [f.name for f in dataclasses.fields(Config) if dataclasses.is_dataclass(f.type)]


def shown(capsys, main, *argv: str) -> str:
    """The output of a command that exits with success."""
    with pytest.raises(SystemExit) as stop:
        cli.run_main(main, argv)
    assert stop.value.code == 0
    told = capsys.readouterr()
    assert told.err == ""
    return told.out


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_one_screen(capsys, monkeypatch, option):
    monkeypatch.setenv("COLUMNS", "100")
    lines = shown(capsys, command.main, "train", option).splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("usage: jaxft train [CONFIG.yaml]")
    begun = {line.split()[0] for line in lines if line.startswith("  ")}
    assert begun >= {*SECTIONS, "--data.train", "--optim.learning_rate"}
    assert not [line for line in lines if line.endswith(("...", " et al"))]


@pytest.mark.parametrize(("asked", "same"), [([], ["--help"]), (["plan"], ["plan", "-h"]), (["hf", "run_qa"],) * 2])
def test_jaxft_help_is_the_same_as_the_option(capsys, asked, same):
    same = [*same, "--help"] if same == asked else same
    assert shown(capsys, command.main, "help", *asked) == shown(capsys, command.main, *same)
    assert shown(capsys, command.main, "help", "evaluate", "data") == shown(capsys, evaluate.main, "--help", "data")


def listed(text: str) -> set[str]:
    return {line.split()[0][2:] for line in text.splitlines() if line.startswith("  --")}


def test_help_lists_the_options_that_a_command_honours(capsys):
    """train lists all; evaluate and plan list none that they ignore, and their own."""
    every = {option.name for option in help.options()}
    assert listed(shown(capsys, train.main, "--help", "all")) == every
    evaluating = listed(shown(capsys, evaluate.main, "--help", "all"))
    assert {"data.text", "data.validation_share", "eval.batch_size", "task.threshold", "seed"} <= evaluating
    assert evaluating - every == {"output", "predictions", "task"}
    assert every - evaluating > {"log.report", "log.predictions"}
    assert not {x.partition(".")[0] for x in evaluating} & {"optim", "plan", "checkpoint", "distill", "output_dir"}
    assert listed(shown(capsys, evaluate.main, "--help")) <= evaluating
    planning = listed(shown(capsys, plan.main, "--help", "all"))
    assert every - planning > {"log.every", "checkpoint.keep", "train.patience"}
    assert "eval.metrics" in evaluating - planning
    assert not {"train.callbacks", "data.prefetch"} & (evaluating | planning)
    assert planning - every == {"plot", "topology"} == listed(shown(capsys, plan.main, "-h")) - every


def test_evaluation_reads_only_options_that_its_help_lists():
    """Those that its code names; a mark on the field says so (`UsedBy`)."""
    files = [ROOT / "jaxft/evaluate.py", ROOT / "jaxft/run/joined.py", *sorted((ROOT / "jaxft/evaluation").glob("*.py"))]
    names = set(re.findall(r"\bconfig\.(\w+\.\w+)", "\n".join(file.read_text(encoding="utf-8") for file in files)))
    read = [option for option in help.options() if option.name in names]
    assert len(read) > 10
    assert not [option.name for option in read if UsedBy.EVALUATE not in option.used_by]


def test_help_on_options_that_a_command_ignores_is_refused(fails):
    fails("evaluate", ["--help", "optim"], "jaxft evaluate ignores optim; jaxft train --help optim describes it")
    fails("__main__", ["help", "trian"], 'unknown command "trian"; did you mean "train"?')


@pytest.mark.parametrize("section", SECTIONS)
def test_help_on_a_section_describes_its_options_alone(capsys, section):
    """Each with its default and its whole description."""
    text = "".join(shown(capsys, train.main, "--help", section).split())
    for option in help.options():
        entry = f"--{option.name}({option.default}){option.doc}"
        assert ("".join(entry.split()) in text) == option.name.startswith(f"{section}."), option.name


def test_help_describes_single_options(capsys):
    assert "(5e-05)" in shown(capsys, train.main, "--help=optim.learning_rate")
    assert "One of linear, cosine, " in " ".join(shown(capsys, train.main, "--help", "optim.schedule").split())
    text = shown(capsys, train.main, "x.yaml", "--help", "plan.rules")
    assert "plan.rules: pattern" in text
    assert "--plan.n" not in text
    assert "usage: jaxft plan CONFIG.yaml [--plot FILE]" in shown(capsys, plan.main, "--help", "plan")
    assert shown(capsys, command.main, "evaluate", "-h").startswith("usage: jaxft evaluate RUN_OR_MODEL_DIR")


def test_help_lists_the_flags_of_a_script(capsys):
    lines = shown(capsys, command.main, "hf", "run_qa", "--help").splitlines()
    assert lines[0] == "usage: jaxft hf run_qa --flag value ..."
    flags = dict(line.split(maxsplit=1) for line in lines[2:])
    assert flags["--learning_rate"] == "optim.learning_rate"
    assert flags["--doc_stride"] == "data.stride"
    assert flags["--eval_steps"] == "eval.every"
    assert flags["--do_predict"].startswith("write predictions for --test_file")
    assert "--deepspeed" not in flags


def test_help_on_an_unknown_option_suggests_another(fails):
    fails("train", ["--help", "optm"], 'no section or option "optm"; did you mean "optim"?')
    fails("train", ["--help", "seeds"], 'did you mean "seed"?')
    fails("train", ["--optim.lr", "1e-3"], 'unknown option "--optim.lr"; did you mean "--optim.learning_rate"?')


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_commands_are_listed_one_per_line(capsys, argv):
    lines = shown(capsys, command.main, *argv).splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(command.COMMANDS)
    assert max(map(len, lines)) <= 110


def test_every_entry_point_is_a_command():
    """And the installed script is the same function."""
    package = ROOT / "jaxft"
    points = [path for path in package.rglob("*.py") if "__name__ ==" in path.read_text(encoding="utf-8")]
    names = {path.parent.name if path.stem == "__main__" else path.stem for path in points}
    assert names - {"jaxft"} == set(command.COMMANDS)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["scripts"] == {"jaxft": "jaxft.__main__:run"}
    assert callable(command.run)


def test_a_command_receives_its_arguments(fails):
    fails("__main__", ["train", "none.yaml"], "none.yaml: cannot be read")
    fails("__main__", ["hf", "run_glu"], 'did you mean "run_glue"?')
    fails("__main__", ["trian", "x.yaml"], 'unknown command "trian"; did you mean "train"?')
    fails("__main__", ["x.yaml"], 'unknown command "x.yaml"; the commands are train, evaluate, ')


def test_the_version_is_printed_without_importing_jax():
    program = "import sys; from jaxft.__main__ import main; main(['--version']); sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("jaxft 0.")
    assert "(jax 0." in done.stdout


def test_help_names_every_optimizer(capsys):
    assert set(NAMED) <= set(re.findall(r"\w+", shown(capsys, train.main, "--help", "optim.name")))
