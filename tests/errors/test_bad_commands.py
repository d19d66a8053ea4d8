"""evaluate, predict, export and plan on bad input: one line, and no partly written file."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jaxft import predict
from jaxft.core import checksums
from tests.support.damage import DISK_FULL, half

COMMANDS = {
    "evaluate": lambda model, data, out: [model, "--data.validation", data / "dev.csv", "--data.max_length", 32],
    "predict": lambda model, data, out: [model, "--input", data / "dev.csv", "--output", out, "--data.max_length", 32],
    "export": lambda model, data, out: [model, "--output", out],
}


@pytest.mark.parametrize(
    ("command", "kind"),
    # predict gives embeddings of a base model
    [(c, k) for k in ("absent", "empty", "base", "begun") for c in COMMANDS if (c, k) != ("predict", "base")],
)
def test_a_directory_without_a_finished_run_is_refused(fails, tiny_model, tiny_data, tmp_path, finished, command, kind):
    model = tiny_model if kind == "base" else tmp_path / kind
    if kind in ("empty", "begun"):
        model.mkdir()
    if kind == "begun":
        shutil.copy(finished / "config.yaml", model)
    why = {"absent": "no such directory", "empty": "no config.json", "base": "fine-tune", "begun": "no model/ yet"}[kind]
    if command == "export":
        why = "no checkpoint yet" if kind == "begun" else "not a run directory"
    fails(command, COMMANDS[command](model, tiny_data, tmp_path / "out"), str(model), why)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "argv", "words"),
    [
        ("evaluate", [], ["run or model directory"]),
        ("evaluate", ["--data.validation", "x.csv"], ["run or model directory first"]),
        ("evaluate", ["MODEL"], ["--data.validation"]),
        ("evaluate", ["MODEL", "--data.validaton", "x.csv"], ['did you mean "--data.validation"']),
        ("evaluate", ["MODEL", "--data.validation", "absent.csv", "--data.max_length=32"], ["absent.csv", "no such file"]),
        ("evaluate", ["/absent"], ["/absent: no such directory"]),
        ("predict", ["/absent", "--input", "x", "--output", "o"], ["/absent: no such directory"]),
        ("predict", [], ["required", "--input"]),
        ("predict", ["MODEL", "--inptu", "x.csv"], ['"--inptu"', 'did you mean "--input"']),
        ("predict", ["MODEL", "--input", "absent.csv", "--output", "o"], ["absent.csv", "no such file"]),
        ("predict", ["MODEL", "--input=x", "--output=o", "--eval.batch_size=0"], ["eval.batch_size is 0", "above 0"]),
        ("predict", ["MODEL", "--input=x", "--output=o", "--eval.batch_size=x"], ["batch_size is x", "whole number"]),
        ("predict", ["MODEL", "--input", "x", "--output", "."], ["--output", "is a directory"]),
        ("predict", ["MODEL", "--input", os.devnull, "--output", "o"], ["--input", "is empty"]),
        ("vocabulary", ["--input", "absent.txt", "--output=o", "--size=9"], ["absent.txt: no such file (--input)"]),
        ("export", [], ["required", "RUN_DIR"]),
        ("export", ["RUN", "--dtype", "float16"], ["--dtype is an option of --format onnx and stablehlo"]),
        ("export", ["RUN", "--data.validation", "x.csv"], ["--data.validation is an option of --format onnx"]),
        ("export", ["RUN", "--format", "onx", "--output", "o"], ["onx", "'onnx'"]),
        ("export", ["RUN", "--format", "onnx"], ["--format onnx needs --output DIR"]),
        ("export", ["RUN", "--format", "onnx", "--output", "o", "--step=last"], ["--step is of a Hugging Face directory"]),
        ("export", ["RUN", "--format", "onnx", "--output", "RUN/model"], ["is the model itself"]),
        ("export", ["MODEL", "--format", "onnx", "--output", "o", "--dtype", "x"], ["--dtype x", "float32", "int8"]),
        ("export", ["MODEL", "--format", "stablehlo", "--output=o", "--dtype=int8"], ["--dtype int8", "float32, bfloat16"]),
        ("export", ["MODEL", "--format", "onnx", "--output=o", "--dtype=int8"], ["give --data.validation FILE"]),
        ("export", ["MODEL", "--format", "onnx", "--output=o", "--max_drop=nan"], ["--max_drop is nan", "0 or more"]),
        ("export", ["/absent", "--format", "onnx", "--output", "o"], ["/absent: no such directory"]),
        ("export", ["RUN", "--step", "x"], ["--step is x", "best, last"]),
        ("export", ["RUN", "--step", "99"], ["no checkpoint of step 99", "there are 7"]),
    ],
)
def test_bad_arguments_are_refused(fails, classifier, finished, monkeypatch, tmp_path, command, argv, words):
    monkeypatch.chdir(tmp_path)
    paths = {"MODEL": classifier, "RUN": finished, "RUN/model": finished / "model"}
    fails(command, [paths.get(a, a) for a in argv], *words)
    assert not list(tmp_path.iterdir())


def test_evaluate_on_an_unknown_label(fails, classifier, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nriver,calm\nriver,sad\n")
    fails("evaluate", [classifier, "--data.validation", tmp_path / "a.csv", "--data.max_length=32"], "row 2", '"sad"')


def test_predict_without_the_text_column(fails, classifier, tmp_path):
    (tmp_path / "a.csv").write_text("sentence\nriver\n")
    argv = [classifier, "--input", tmp_path / "a.csv", "--output", tmp_path / "o", "--data.max_length", "32"]
    fails("predict", argv, "a.csv", 'no column "text"', "sentence")
    assert not (tmp_path / "o").exists()


def test_own_options_are_named_instead_of_those_of_the_config(fails, classifier, tmp_path):
    for name, text in (("empty.csv", ""), ("a.csv", "sentence,b\nriver,1\n")):
        (tmp_path / name).write_text(text)
    out = ["--output", tmp_path / "o"]
    fails("predict", [classifier, "--input", tmp_path / "empty.csv", *out], "empty.csv: the file is empty (--input)")
    argv = ["--input", tmp_path / "a.csv", *out, "--size", 9]
    fails("vocabulary", argv, 'a.csv: no column "text" (columns: sentence, b); --text names it')
    assert not (tmp_path / "o").exists()


def test_a_line_of_a_txt_file_is_the_text_whatever_data_text_is(classifier, tmp_path, capfdbinary):
    (tmp_path / "a.txt").write_text("river\nstorm\n")
    argv = ["--input", str(tmp_path / "a.txt"), "--output", "-", "--data.text=x", "--data.max_length=32"]
    predict.main([str(classifier), *argv])
    assert len(capfdbinary.readouterr().out.splitlines()) == 2


def test_standard_input_that_is_not_json(fails, classifier, tmp_path):
    (tmp_path / "a").write_text("the river\n")
    before = os.dup(0)
    try:
        with open(tmp_path / "a", "rb") as file:
            os.dup2(file.fileno(), 0)
        argv = [classifier, "--input", "-", "--output", tmp_path / "o"]
        line = fails("predict", argv, "standard input", "it is read as json lines")
    finally:
        os.dup2(before, 0)
    assert "standard_input" not in line


def test_predict_beyond_the_positions(fails, classifier, tiny_data, tmp_path):
    fails("predict", [classifier, "--input", tiny_data / "dev.csv", "--output", tmp_path / "o"], "128", "48 positions")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_predict_to_a_full_disk(fails, classifier, tiny_data):
    argv = [classifier, "--input", tiny_data / "dev.csv", "--output", "/dev/full", "--data.max_length", 32]
    fails("predict", argv, "/dev/full", "No space left on device")
    assert Path("/dev/full").is_char_device()


def test_predict_keeps_the_old_file_when_the_disk_fills(fails, classifier, tiny_data, tmp_path, monkeypatch):
    def full(*args):
        raise DISK_FULL

    (tmp_path / "o.jsonl").write_text("old")
    monkeypatch.setattr(os, "replace", full)
    argv = [classifier, "--input", tiny_data / "dev.csv", "--output", tmp_path / "o.jsonl", "--data.max_length", 32]
    fails("predict", argv, "cannot be written", "No space left on device")
    assert os.listdir(tmp_path) == ["o.jsonl"]
    assert (tmp_path / "o.jsonl").read_text() == "old"


def test_export_to_a_directory_that_cannot_be_made(fails, finished):
    fails("export", [finished, "--output", "/proc/nowhere/model"], "/proc/nowhere", "cannot be written")


def test_export_of_a_damaged_checkpoint(fails, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    for path in (run / "checkpoints").rglob("*"):
        if path.is_file() and path.stat().st_size > 2000:
            half(path)
    fails("export", [run, "--output", tmp_path / "out"], str(run), "checkpoint")
    assert not (tmp_path / "out").exists()


def test_a_damaged_model_of_a_run(fails, finished, tiny_data, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    path = run / "model" / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # a number that is a little wrong
    words = f"{path} has other content than was written", "jaxft export", f"delete {run / 'model' / 'checksums.json'}"
    fails("evaluate", [run, "--data.validation", tiny_data / "dev.csv"], *words)
    argv = ["--input", tiny_data / "dev.csv", "--output", tmp_path / "o.jsonl"]
    fails("predict", [run / "model", *argv], *words)
    path.write_bytes(whole)
    (run / "model" / "tokenizer_config.json").unlink()
    fails("predict", [run, *argv], "tokenizer_config.json is not there")
    assert not (tmp_path / "o.jsonl").exists()


def test_a_hostile_manifest_reads_no_other_file(fails, classifier, tiny_data, tmp_path):
    model = shutil.copytree(classifier, tmp_path / "model")
    (model / "zero").symlink_to("/dev/zero")
    for files, words in (
        ({"/dev/zero": [0, "0"]}, "which is not in its folder"),
        ({"../zero": [0, "0"]}, "which is not in its folder"),
        ({"zero": [0, "0"]}, "zero is not there"),
        ({"zero": 5}, "is torn"),
        ([], "is torn"),
    ):
        checksums.write_sealed(model / checksums.MANIFEST, {"files": files})
        fails("predict", [model, "--input", tiny_data / "dev.csv", "--output", tmp_path / "o"], str(model), words)


def test_plan_reports_like_train(fails, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"model": {"path": "no/such/dir"}, "data": {"train": "x.csv"}}))
    fails("plan", [path], "no/such/dir: no such directory")


def test_predictions_are_not_written_as_a_table(fails, classifier, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "the river"}\n')
    argv = [str(classifier), "--input", str(tmp_path / "a.jsonl"), "--output", str(tmp_path / "p.csv")]
    fails("predict", argv, "p.csv", "written as .jsonl or .json")
    argv[2] = str(tmp_path / "b.jsonl")
    fails("predict", [*argv[:4], str(tmp_path / "p.jsonl")], "b.jsonl: no such file (--input)")


def test_a_reader_that_has_enough_is_no_error():
    """As `jaxft --help | head -1`: the exit code is that of a program which SIGPIPE ends."""
    command = [sys.executable, "-m", "jaxft", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as done:
        assert done.stdout is not None
        done.stdout.close()
        assert done.stderr is not None
        assert (done.stderr.read(), done.wait()) == ("", 128 + signal.SIGPIPE)
