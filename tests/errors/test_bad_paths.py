"""URLs that are not written as such, or cannot be used, are refused in one line before anything is written."""

import os
import sys

import pytest

import jaxft
from jaxft.config import cli
from jaxft.core.errors import UserError
from jaxft.core.paths import cache_dir
from jaxft.hf.convert import convert
from jaxft.hf.scripts import SCRIPTS

URL = "gs://bucket/there"
TORN = "gs:/bucket/there"  # what is left of it when pathlib has seen it


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The working directory, which stays empty; the package for gs:// is not installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    yield
    assert not os.listdir(tmp_path)


KINDS = ("path", "file", "output_dir", "dataset", "tokenizer", "train", "validation", "test", "embeddings", "cache_dir")
PATHS = [name for name in cli.field_names() if name.rpartition(".")[2] in KINDS or name == "distill.teacher"]


@pytest.mark.parametrize("name", PATHS)
def test_a_url_as_an_option_of_a_run(fails, name):
    right = "a local path" if name == "distill.cache_dir" else f"give {URL}"
    fails("train", [f"--{name}={TORN}"], f"{name} is {TORN}", right)


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("train", [URL]),
        ("train", ["--model.path", URL, "--data.train", "x.csv"]),
        ("train", ["--model.path", "MODEL", "--data.train", URL]),
        ("train", ["--model.path", "MODEL", "--data.train", "DATA", "--distill.teacher", URL]),
        ("train", ["--model.path", "MODEL", "--data.train", "DATA", "--vocabulary.file", URL]),
        ("plan", [URL]),
        ("evaluate", [URL, "--data.validation", "x.csv"]),
        ("evaluate", ["MODEL", "--data.validation", URL]),
        ("predict", [URL, "--input", "x.csv", "--output", "y.jsonl"]),
        ("predict", ["MODEL", "--input", URL, "--output", "y.jsonl"]),
        ("predict", ["MODEL", "--input", "DATA", "--output", URL]),
        ("train", ["--model.path", "MODEL", "--data.train", "DATA", "--output_dir", URL]),
        ("export", [URL, "--output", "x"]),
        ("export", ["MODEL", "--merge", "--output", URL]),
        ("report.__main__", [URL]),
        ("vocabulary", ["--input", URL, "--output", "y", "--size", "9"]),
        ("vocabulary", ["--input", "DATA", "--output", URL, "--size", "99"]),
    ],
)
def test_a_url_whose_package_is_not_installed(fails, classifier, tiny_data, command, argv):
    given = {"MODEL": str(classifier), "DATA": str(tiny_data / "train.csv")}
    fails(command, [given.get(x, x) for x in argv], URL, "a package for gs:// is not installed: pip install 'jaxft[gcs]'")


@pytest.mark.parametrize("flag", ["output_dir", "model_name_or_path", "train_file", "test_file"])
def test_a_url_as_a_flag_of_a_script(flag):
    given = {"output_dir": "o", "model_name_or_path": "m", "train_file": "t.csv"} | {flag: TORN}
    with pytest.raises(UserError, match=f"--{flag} is {TORN}"):
        convert(
            "run_glue",
            SCRIPTS["run_glue"],
            [x for name, value in given.items() for x in (f"--{name}", value)] + ["--do_train"],
        )


def test_a_url_given_to_load_and_save(classifier):
    with pytest.raises(UserError, match=f"{URL}: a package for gs:// is not installed"):
        jaxft.load(URL)
    model, params = jaxft.load(str(classifier))
    with pytest.raises(UserError, match=f"{URL}: a package for gs:// is not installed"):
        jaxft.save(model, params, URL)


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("self_train", ["--unlabelled", "x.csv", "--output_dir", URL]),
        ("suspicious_labels", ["--output", "x.jsonl", "--work", URL]),
    ],
)
def test_a_url_for_the_runs_of_a_series(fails, command, argv, classifier, tiny_data):
    fails(command, [*argv, "--model.path", classifier, "--data.train", tiny_data / "train.csv"], URL, "give a local path")


def test_a_url_as_the_cache_folder(monkeypatch):
    monkeypatch.setenv("JAXFT_CACHE", URL)
    with pytest.raises(UserError, match=f"JAXFT_CACHE is {URL}"):
        cache_dir()


def test_export_to_a_file(fails, classifier):
    fails("export", [classifier, "--output", "/dev/null"], "/dev/null: is a file; give a directory")
