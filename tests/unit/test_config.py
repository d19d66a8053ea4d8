"""The schema, the command line and YAML: values round-trip, and --help lists every option, fast."""

import ast
import dataclasses
import inspect
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from jaxft.config import (
    Config,
    RuleConfig,
    adversarial,
    augment,
    clean,
    cli,
    data,
    domains,
    model,
    optim,
    plan,
    schema,
    several,
    task,
    training,
    unlabelled,
)
from jaxft.config.durations import duration_seconds, duration_steps
from jaxft.core.errors import UserError
from tests.support import ROOT

COMMANDS = ["train", "evaluate", "predict", "export", "plan", "clean"]


def load(text: str, folder: Path, *overrides: str) -> Config:
    (folder / "c.yaml").write_text(text, encoding="utf-8")
    return cli.load([str(folder / "c.yaml"), *overrides])


def test_without_a_file_the_config_has_defaults():
    assert cli.load([]) == Config()


def test_options_override_the_file(tmp_path):
    text = "seed: 3\ntrain: {epochs: 2, batch_size: 8}\ndata: {label: category}\n"
    config = load(text, tmp_path, "--train.batch_size", "4", "--data.layout=pad", "--model.dropout", "0.3")
    assert (config.seed, config.train.epochs, config.train.batch_size) == (3, 2.0, 4)
    assert (config.data.label, config.data.layout, config.model.dropout) == ("category", "pad", 0.3)
    assert config.optim == Config().optim


@pytest.mark.parametrize("text", ["5e-5", "5E-5", "5.0e-5", "0.00005", ".5e-4"])
def test_exponents_are_numbers(tmp_path, text):
    assert load(f"optim: {{learning_rate: {text}}}", tmp_path).optim.learning_rate == 5e-5
    assert cli.load(["--optim.learning_rate", text]).optim.learning_rate == 5e-5


def test_text_that_looks_like_an_exponent_stays_text(tmp_path):
    assert load("output_dir: runs/5e-5\ndata: {text: e5, label: '5e-5'}", tmp_path).data.label == "5e-5"


def test_a_column_name_may_begin_with_a_hash(tmp_path):
    """MRPC's second text is in "#2 String"."""
    (tmp_path / "c.yaml").write_text("data: {text: '#1 String', text_pair: '#2 String', label: '#3'}")
    for argv in ([str(tmp_path / "c.yaml")], ["--data.text=#1 String", "--data.text_pair", "#2 String", "--data.label=#3"]):
        data = cli.load(argv).data
        assert (data.text, data.text_pair, data.label) == ("#1 String", "#2 String", "#3")


def test_null_is_none_on_the_command_line_and_in_the_file(tmp_path):
    assert cli.load(["--optim.clip", "null"]).optim.clip is None
    assert load("optim: {clip: null}\ndata:\n", tmp_path) == cli.load(["--optim.clip", "null"])


NULLABLE = [
    f"{section.name}.{field.name}"
    for section in dataclasses.fields(Config)
    if dataclasses.is_dataclass(kind := type(getattr(Config(), section.name)))
    for field in dataclasses.fields(kind)
    if getattr(getattr(Config(), section.name), field.name) is None
]


@pytest.mark.parametrize("name", NULLABLE)
def test_null_is_none_for_every_option_that_may_be_none(name):
    """Also for options that take text: `--data.validation null` names no file."""
    section, field = name.split(".")
    for argv in ([f"--{name}=null"], [f"--{name}", "null"]):
        assert getattr(getattr(cli.parse({}, argv, origin="test"), section), field) is None


def test_lists_and_rules_are_parsed(tmp_path):
    config = load("plan: {rules: [{pattern: bias, learning_rate: 2}]}\ntask: {labels: [b, a]}", tmp_path)
    assert config.plan.rules == [RuleConfig("bias", learning_rate=2.0)]
    assert config.task.labels == ["b", "a"]
    assert cli.load(["--task.labels", "[b, a]"]).task == config.task


EVERYTHING = """
output_dir: "läufe/a: b"
seed: 7
model: {path: "package:x/y", dropout: 0.25}
task: {labels: ["no", "1", "5e-5", "null"]}
data: {train: t.csv, validation: v.csv, columns: [a, "2"], text_pair: b, truncation: false}
plan: {preset: last_n, n: 1, rules: [{pattern: "^heads", weight_decay: true}, {pattern: x, trainable: false}]}
optim: {learning_rate: 1e-7, epsilon: 1.0e-12, clip: null}
eval: {every: 0.5 epochs}
checkpoint: {every: 500}
distill: {teacher: t}
"""


@pytest.mark.parametrize("text", ["", EVERYTHING])
def test_a_dumped_config_loads_as_an_equal_one(tmp_path, text):
    config = load(text, tmp_path)
    again = load(cli.dump(config), tmp_path)
    assert again == config
    assert cli.dump(again) == cli.dump(config)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_recipe_parses_and_its_files_exist(path, monkeypatch):
    """Files from elsewhere may be missing; then the recipe's header says where they come from."""
    monkeypatch.chdir(ROOT)
    config = cli.load([str(path)])
    assert config.model.path

    for file in (config.data.train, config.data.validation, config.data.test):
        if file is None or config.data.dataset:
            continue
        outside = file.startswith(("../shared/", "data/"))
        assert "# Data: " in path.read_text() if outside else Path(file).exists()
        assert not (ROOT / "../shared").is_dir() or file.startswith("data/") or Path(file).exists()


@pytest.mark.parametrize(
    ("value", "steps"),
    [
        (500, 500),
        ("500", 500),
        ("500 steps", 500),
        ("  3   steps ", 3),
        ("1 step", 1),
        ("1 epoch", 40),
        ("0.5 epochs", 20),
        ("2 epochs", 80),
        ("0.001 epochs", 1),
    ],
)
def test_a_duration_is_a_number_of_steps(value, steps):
    assert duration_steps(value, 40, "eval.every") == steps


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("10 minutes", 600),
        ("1 minute", 60),
        ("0.5 minutes", 30),
        (" 2  hours ", 7200),
        ("500", None),
        ("end", None),
        (3, None),
    ],
)
def test_a_duration_may_be_a_time(value, seconds):
    assert duration_seconds(value) == seconds


@pytest.mark.parametrize("value", ["", "often", "1 week", "0.5 steps", "0 epochs", "-1", "nan epochs", "inf epochs", 0])
def test_a_bad_duration_is_refused(value):
    with pytest.raises(UserError, match=r"eval\.every.*500 steps.*0\.5 epochs"):
        duration_steps(value, 40, "eval.every")


SCHEMA = (schema, adversarial, augment, clean, data, domains, model, optim, plan, several, task, training, unlabelled)


def sections() -> list[type]:
    return [c for m in SCHEMA for _, c in inspect.getmembers(m, dataclasses.is_dataclass) if c.__module__ == m.__name__]


def schema_nodes() -> list[ast.stmt]:
    return [node for module in SCHEMA for node in ast.parse(inspect.getsource(module)).body]


def test_every_field_has_a_docstring():
    for node in schema_nodes():
        if not isinstance(node, ast.ClassDef):
            continue
        assert ast.get_docstring(node), node.name
        for field, below in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and not ast.unparse(field.annotation).endswith("Config"):
                assert isinstance(below, ast.Expr), f"{node.name}.{ast.unparse(field.target)}"
                assert isinstance(below.value, ast.Constant), f"{node.name}.{ast.unparse(field.target)}"


def test_every_section_is_frozen():
    assert len(sections()) >= 14
    assert all(c.__dataclass_params__.frozen for c in sections())


def field_docs() -> dict[str, tuple[str, object]]:
    """Dotted option name -> (docstring, default)."""
    classes = {n.name: n for n in schema_nodes() if isinstance(n, ast.ClassDef)}
    docs = {}

    def walk(cls: type, prefix: str) -> None:
        body = classes[cls.__name__].body
        for field in dataclasses.fields(cls):
            if dataclasses.is_dataclass(field.type):
                walk(field.type, f"{prefix}{field.name}.")
                continue
            at = next(i for i, n in enumerate(body) if isinstance(n, ast.AnnAssign) and n.target.id == field.name)
            missing = field.default is dataclasses.MISSING
            docs[prefix + field.name] = (body[at + 1].value.value, field.default_factory() if missing else field.default)

    walk(Config, "")
    return docs


def run_help(command: str, *topic: str) -> tuple[str, float]:
    """(what a command prints, without blanks; the seconds of processor time that it takes)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    argv = [sys.executable, "-m", f"jaxft.{command}", "--help", *topic]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return "".join(done.stdout.split()), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_fast(command):
    assert run_help(command)[1] < 3


def test_help_lists_every_field_with_its_default():
    text = run_help("train", "all")[0]
    for name, (doc, default) in field_docs().items():
        shown = {"None": "null", "True": "true", "False": "false"}.get(str(default), default)
        assert "".join(f"--{name}({shown}){doc}".split()) in text, name


@pytest.mark.parametrize(
    ("command", "options"),
    [("predict", ["--input", "--output", "--features", "--data.text"]), ("export", ["--output", "--step"])],
)
def test_help_lists_the_options_of_predict_and_export(command, options):
    text = run_help(command)[0]
    assert all(option in text for option in options)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_does_not_import_jax(command):
    code = (
        f"import sys, jaxft.{command} as command\n"
        "try: command.main(['--help'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'jax', 'flax', 'numpy', 'datasets', 'transformers', 'orbax', 'sklearn'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=60)
