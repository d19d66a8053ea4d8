"""A cache of a teacher's outputs that cannot be used or made: one line that says why; nothing is written."""

import shutil

import pytest

from jaxft.config import cli
from jaxft.run.setup import make_run
from jaxft.teacher_cache.choice import choose
from jaxft.teacher_cache.fill import taught
from tests.support import tiny

TEACHER = "distill.teacher"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"distill.cache": "true"}, ["distill.cache", "auto"]),
        (
            {"distill.cache": "off", "distill.cache_dir": "x"},
            ["distill.cache_dir is x: must be null if distill.cache is off"],
        ),
        ({"distill.cache": "off", "distill.keep_logits": 2}, ["distill.keep_logits is 2: must be null"]),
        ({"distill.keep_logits": 0}, ["distill.keep_logits is 0: must be above 0"]),
    ],
)
def test_options(train_fails, classifier, options, words):
    train_fails({TEACHER: classifier, **options}, *words)


def test_keep_logits_of_sigmoids(train_fails, tiny_model, tmp_path):
    rows = "".join(f"river stone,{'calm' if i % 2 else 'calm;merry'}\n" for i in range(20))
    (tmp_path / "several.csv").write_text(f"text,label\n{rows}")
    labels = ["calm", "merry"]
    teacher = tiny.write_model(tmp_path / "teacher", labels=labels, problem_type="multi_label_classification")
    several = {"task.problem": "multi_label", "data.label_separator": ";", "data.validation": None}
    options = several | {"data.train": tmp_path / "several.csv", TEACHER: teacher, "distill.keep_logits": 1}
    train_fails(options, "distill.keep_logits is for text classification with one label", "not for multi_label")


def test_inputs_that_change(train_fails, classifier):
    options = {TEACHER: classifier, "augment.steps": "[{step: delete}]"}
    for asked, value in (("cache on", {"distill.cache": "on"}), ("keep_logits", {"distill.keep_logits": 2})):
        train_fails(options | value, f"distill.{asked}: the teacher must run in every step, because augment.steps changes")


@pytest.fixture(scope="module")
def kept(tiny_model, tiny_data, classifier, tmp_path_factory):
    """A directory with the outputs of the classifier for the training data; to read only."""
    folder = tmp_path_factory.mktemp("kept")
    distill = {"teacher": str(classifier), "cache_dir": str(folder / "cache")}
    run = make_run(tiny.run_config(tiny_model, tiny_data, folder / "run", distill=distill))
    taught(run, choose(run).stored, run.data["train"].examples, lambda _: None)
    return folder / "cache"


def test_a_directory_with_other_outputs(train_fails, kept, classifier, tiny_data, tmp_path):
    """Of another teacher, for other rows, or for other texts of the same rows; its files stay as they are."""
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    other = tiny.write_model(tmp_path / "other", labels=tiny.LABELS, seed=7)
    where = f"distill.cache_dir {kept}: holds other outputs than this run needs"
    options = {"distill.cache_dir": kept}
    train_fails({**options, TEACHER: other}, where, "distill.teacher: model.safetensors has changed", "choose another")
    rows = tiny.write_rows(tmp_path / "train.csv", 90, seed=9)
    train_fails({**options, TEACHER: classifier, "data.train": rows}, where, f"data.train: {rows} is new")
    train_fails({**options, TEACHER: classifier, "data.max_length": 8}, where, "data.max_length (32 there, 8 here)")
    train_fails(
        {**options, TEACHER: classifier, "distill.keep_logits": 2}, where, "outputs (logits there, 2 largest logits here)"
    )
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before


def test_the_plan_refuses_what_training_refuses(fails, tiny_model, tiny_data, classifier, tmp_path):
    options = {"model.path": tiny_model, "data.train": tiny_data / "train.csv", "data.max_length": 32, TEACHER: classifier}
    (tmp_path / "notes.txt").write_text("mine")
    given = [f"--{name}={x}" for name, x in {**options, "distill.cache_dir": tmp_path}.items()]
    fails("plan", given, f"distill.cache_dir {tmp_path}: holds other files (notes.txt)")


def test_a_directory_with_other_files(train_fails, kept, classifier, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    options = {TEACHER: classifier, "distill.cache_dir": folder}
    train_fails(options, f"distill.cache_dir {folder}: holds other files (notes.txt)", "empty directory")
    assert (folder / "notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    train_fails({**options, "distill.cache_dir": tmp_path / "file"}, f"distill.cache_dir {tmp_path / 'file'}: is a file")
    shutil.copytree(kept, tmp_path / "damaged")
    (tmp_path / "damaged/about.json").write_text("{}")
    train_fails({**options, "distill.cache_dir": tmp_path / "damaged"}, "about.json is torn", "delete it")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["distill.teacher is null"]),
        (["--distill.cache=off"], ["distill.cache is off"]),
        (["--augment.steps=[{step: delete}]"], ["distill.cache on", "augment.steps changes the texts"]),
        # Temporary files, which a run would take instead, are of no use to later runs.
        (["--distill.cache_dir=/dev/null/x"], ["/dev/null/x: the teacher's outputs (1,200 bytes) cannot be written: Not a"]),
    ],
)
def test_the_command(fails, tiny_model, tiny_data, classifier, tmp_path, options, words):
    teacher = str(classifier) if options else None
    path = tmp_path / "config.yaml"
    path.write_text(cli.dump(tiny.run_config(tiny_model, tiny_data, tmp_path / "run", distill={"teacher": teacher})))
    fails("teach", [str(path), *options], *words)
    assert not (tmp_path / "run").exists()
