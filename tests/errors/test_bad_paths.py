"""URLs in place of paths are refused in one line before anything is read or written."""

import os

import pytest

import jaxft
from jaxft.config import cli
from jaxft.core.errors import UserError
from jaxft.core.paths import cache_dir
from jaxft.hf.convert import convert
from jaxft.hf.scripts import SCRIPTS

URL = "gs://bucket/there"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The working directory, which stays empty."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not os.listdir(tmp_path)


KINDS = ("path", "file", "output_dir", "dataset", "tokenizer", "train", "validation", "test", "embeddings", "cache_dir")
PATHS = [name for name in cli.field_names() if name.rpartition(".")[2] in KINDS or name == "distill.teacher"]


@pytest.mark.parametrize("name", PATHS)
def test_a_url_as_an_option_of_a_run(fails, tmp_path, name):
    fails("train", [f"--{name}={URL}"], f"{name} is {URL}", "URLs")


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("train", [URL]),
        ("plan", [URL]),
        ("plan", ["--plot", f"{URL}.png"]),
        ("evaluate", [URL, "--data.validation", "x.csv"]),
        ("evaluate", ["MODEL", "--data.validation", URL]),
        ("predict", [URL, "--input", "x.csv", "--output", "y.jsonl"]),
        ("predict", ["MODEL", "--input", URL, "--output", "y.jsonl"]),
        ("predict", ["MODEL", "--input", "x.csv", "--output", URL]),
        ("export", [URL, "--output", "x"]),
        ("export", ["MODEL", "--output", URL]),
        ("vocabulary", ["--input", "x.txt", URL, "--output", "y", "--size", "9"]),
        ("vocabulary", ["--input", "x.txt", "--output", URL, "--size", "9"]),
    ],
)
def test_a_url_as_an_argument_of_a_command(fails, classifier, command, argv):
    fails(command, [classifier if x == "MODEL" else x for x in argv], URL, "URLs (gs://) are neither read nor written")


@pytest.mark.parametrize("flag", ["output_dir", "model_name_or_path", "train_file", "test_file"])
def test_a_url_as_a_flag_of_a_script(flag):
    given = {"output_dir": "o", "model_name_or_path": "m", "train_file": "t.csv"} | {flag: URL}
    with pytest.raises(UserError, match=f"--{flag} is {URL}"):
        convert(
            "run_glue",
            SCRIPTS["run_glue"],
            [x for name, value in given.items() for x in (f"--{name}", value)] + ["--do_train"],
        )


def test_a_url_given_to_load_and_save(classifier):
    with pytest.raises(UserError, match=URL):
        jaxft.load(URL)
    model, params = jaxft.load(str(classifier))
    with pytest.raises(UserError, match="URLs"):
        jaxft.save(model, params, URL)


def test_a_url_as_the_cache_folder(monkeypatch):
    monkeypatch.setenv("JAXFT_CACHE", URL)
    with pytest.raises(UserError, match=f"JAXFT_CACHE is {URL}"):
        cache_dir()


def test_export_to_a_file(fails, classifier):
    fails("export", [classifier, "--output", "/dev/null"], "/dev/null: is a file; give a directory")
