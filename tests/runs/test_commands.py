"""evaluate, predict, export and plan on a finished run, and the recipes."""

import csv
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxft
from jaxft import evaluate, export, plan, predict
from jaxft.config import cli
from jaxft.core.errors import UserError
from jaxft.preflight import learning_rates
from jaxft.run.setup import make_run
from jaxft.train import train
from tests.support import read_jsonl, tiny


@pytest.fixture(scope="module")
def run(tiny_model, tiny_data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("commands") / "run"
    config = tiny.run_config(
        tiny_model,
        tiny_data,
        directory,
        model=tiny.NO_DROPOUT,
        data={"test": str(tiny_data / "test.csv")},
        train={"epochs": 6},
        eval={"every": "2 epochs"},
        plan={"preset": "last_n", "n": 1},
        checkpoint={"flax": True},
        log={"trackers": ["tensorboard"]},
    )
    return directory, train(config)


def test_evaluate_gives_what_training_saw(run, tiny_data):
    directory, results = run
    scores = evaluate.main([str(directory), "--data.validation", str(tiny_data / "dev.csv")])
    assert scores["accuracy"] == results["eval/accuracy"]
    assert scores["loss"] == pytest.approx(results["eval/loss"], rel=1e-5)
    other = evaluate.main(
        [str(directory / "model"), "--data.validation", str(tiny_data / "test.csv"), "--data.max_length", "32"]
    )
    assert other["accuracy"] == results["test/accuracy"]


def test_predict_answers_row_by_row_as_forward_does(run, tiny_data, tmp_path):
    directory, results = run
    predict.main([str(directory), "--input", str(tiny_data / "test.csv"), "--output", str(tmp_path / "out.jsonl")])
    answers = read_jsonl(tmp_path / "out.jsonl")
    with open(tiny_data / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(answers) == len(rows)
    right = np.mean([a["label"] == r["label"] for a, r in zip(answers, rows, strict=True)])
    assert right == pytest.approx(results["test/accuracy"])
    model, params = jaxft.load(str(directory / "model"))
    from jaxft.data.tokens.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(directory / "model")
    for answer, row in list(zip(answers, rows, strict=True))[:3]:
        logits = jaxft.forward(model, params, tokenizer([row["text"]], return_tensors="np"))["logits"][0]
        scores = np.exp(logits) / np.exp(logits).sum()
        assert list(answer["scores"].values()) == pytest.approx(scores, abs=2e-6)
        assert answer["score"] == max(answer["scores"].values())


READING = ["--data.max_length", "32"]


def test_evaluation_can_be_limited(classifier, tiny_data, capsys):
    evaluate.main(
        [str(classifier), "--data.validation", str(tiny_data / "dev.csv"), "--data.max_eval_examples", "6", *READING]
    )
    told = capsys.readouterr()
    assert sum(map(sum, json.loads(told.out)["confusion"])) == 6
    assert "the first 6 examples are evaluated (data.max_eval_examples)" in told.err


@pytest.mark.parametrize("more", [[], ["--features", "mean"]])
def test_predictions_can_be_limited(classifier, tiny_data, tmp_path, more):
    argv = [str(classifier), "--input", str(tiny_data / "dev.csv"), "--output", str(tmp_path / "out.jsonl"), *READING, *more]
    predict.main([*argv, "--data.max_eval_examples=4"])
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 4


def test_predict_from_a_pipe_to_standard_output(classifier, tmp_path, capfd):
    """Nothing else is printed there: messages go to standard error."""
    os.mkfifo(tmp_path / "pipe.csv")
    rows = [{"text": "the old river"}, {"text": "a song"}]
    write = threading.Thread(target=lambda: (tmp_path / "pipe.csv").write_text("".join(f"{json.dumps(x)}\n" for x in rows)))
    write.start()
    predict.main([str(classifier), "--input", str(tmp_path / "pipe.csv"), "--output", "-", *READING])
    write.join()
    assert [set(json.loads(line)) for line in capfd.readouterr().out.splitlines()] == [{"label", "score", "scores"}] * 2


def test_an_array_can_be_written_to_a_pipe(classifier, tiny_data, tmp_path):
    """A pipe has no position, which numpy would ask for."""
    os.mkfifo(tmp_path / "pipe.npy")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe.npy")], stdout=subprocess.PIPE)
    argv = ["--input", str(tiny_data / "dev.csv"), "--output", str(tmp_path / "pipe.npy"), "--features", "mean", *READING]
    predict.main([str(classifier), *argv])
    found = np.load(io.BytesIO(reader.communicate(timeout=60)[0]))
    assert (found.shape, found.dtype) == ((30, 24), np.float32)


def test_the_limit_of_a_run_does_not_apply_to_predictions(finished, tiny_data, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("max_eval_examples: null", "max_eval_examples: 5"))
    predict.main([str(run), "--input", str(tiny_data / "dev.csv"), "--output", str(tmp_path / "out.jsonl")])
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 30


@pytest.mark.parametrize("option", ["null", "drop", "error"])
def test_rows_without_a_text_do_not_stop_predictions(run, tmp_path, capsys, option):
    """They are null or left out, and counted; they are an error only on request."""
    (tmp_path / "in.csv").write_text('text\nthe river\n""\n  \nstorm\n')
    command = [str(run[0]), "--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.jsonl")]
    given = [] if option == "null" else [f"--data.empty_texts={option}"]
    if option == "error":
        with pytest.raises(UserError, match="row 2 has an empty text"):
            predict.main([*command, *given])
        return
    predict.main([*command, *given])
    labels = [row["label"] for row in read_jsonl(tmp_path / "out.jsonl")]
    assert [label is None for label in labels] == ([False, True, True, False] if option == "null" else [False, False])
    how = {
        "null": "wrote 4 predictions .*; 2 rows are null: no usable text",
        "drop": "wrote 2 .*; 2 rows are left out: no usable text",
    }
    assert re.search(how[option], capsys.readouterr().err)


def test_export_of_a_checkpoint_is_the_model_of_the_run(run, tmp_path):
    directory, _ = run
    export.main([str(directory), "--output", str(tmp_path / "exported")])
    want = load_file(directory / "model" / "model.safetensors")
    got = load_file(tmp_path / "exported" / "model.safetensors")
    assert want.keys() == got.keys()
    assert all(want[name].tobytes() == got[name].tobytes() for name in want)
    export.main([str(directory), "--output", str(tmp_path / "last"), "--step", "last", "--flax"])
    assert (tmp_path / "last" / "flax_model.msgpack").is_file()
    assert (tmp_path / "last" / "vocab.txt").read_bytes() == (directory / "model" / "vocab.txt").read_bytes()


def test_tensorboard_and_flax_files_are_written_on_request(run):
    directory, _ = run
    assert list((directory / "tensorboard").glob("events*"))
    assert (directory / "model" / "flax_model.msgpack").is_file()


def test_plan_prints_parameters_rates_waste_flops_and_memory_of_every_stage(tiny_model, tiny_data, tmp_path, capsys):
    rules = [{"pattern": "pooler", "learning_rate": 2}]
    config = tiny.run_config(
        tiny_model,
        tiny_data,
        tmp_path / "run",
        model=tiny.NO_DROPOUT,
        plan={"preset": "gradual", "unfreeze_every": 4, "unfreeze_layers": 2, "rules": rules},
        optim={"warmup": 0, "schedule": "constant"},
    )
    (tmp_path / "config.yaml").write_text(cli.dump(config))
    plan.main([str(tmp_path / "config.yaml")])
    text = capsys.readouterr().out
    for part in ("^heads", "from step", "11,891 trained", "tokens per example", "padding by layout: pack", "GFLOP", "MiB"):
        assert part in text
    assert re.search(r"^pooler & .*(\s+0\.006){6}$", text, re.MULTILINE)
    padding = dict(re.findall(r"(pack|bucket|pad) ([\d.]+)%", text.partition("padding by layout: ")[2]))
    assert float(padding["pack"]) < float(padding["bucket"]) < float(padding["pad"])
    forward = [float(x) for x in re.findall(r"from step \d+: .* GFLOP, ([\d.]+) forward passes", text)]
    assert len(forward) == 2
    assert 1 < forward[0] < 1.2 < 2.5 < forward[1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("argument", "words"), [("--plot=x.jpg", '"x.jpg"'), ("--plot", "ends in .png")])
def test_a_plot_of_an_unknown_kind_is_refused(fails, argument, words):
    fails("plan", [argument], words)


def test_a_plot_shows_the_rates(tiny_model, tiny_data, tmp_path):
    """One line per group: its multiple of a schedule that falls to 0, and 0 before its stage begins."""
    preset = {"preset": ["gradual", "layerwise_decay"], "unfreeze_every": 2, "layer_decay": 0.5}
    settings = {"learning_rate": 1.0, "warmup": 0}
    run = make_run(tiny.run_config(tiny_model, tiny_data, tmp_path / "run", plan=preset, optim=settings))
    groups = learning_rates.learning_rates(run, np.arange(run.total_steps))
    assert len(groups) == len(run.plan.rows)
    for found, row in zip(groups.values(), run.plan.rows, strict=True):
        own, steps = row.setting, np.arange(run.total_steps)
        expected = np.where(steps < own.unfreeze, 0.0, own.learning_rate * (1 - steps / run.total_steps))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    learning_rates.plot(run, str(tmp_path / "rates.svg"))
    drawn = (tmp_path / "rates.svg").read_text(encoding="utf-8")
    for name in groups:
        assert f"<!-- {name} -->" in drawn


def test_a_plot_needs_matplotlib(fails, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    fails("plan", ["--plot", "x.png"], "matplotlib", "jaxft[plot]")


def test_early_stopping_keeps_the_best(tiny_model, tiny_data, tmp_path):
    config = tiny.run_config(
        tiny_model,
        tiny_data,
        tmp_path / "run",
        model=tiny.NO_DROPOUT,
        train={"epochs": 20, "patience": 2},
        optim={"learning_rate": 1e-9, "schedule": "constant"},
        eval={"every": 2},
        checkpoint={"every": 5, "keep": 1},
    )
    train(config)
    rows = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    evaluated = [row["step"] for row in rows if "eval/loss" in row and not row.get("final")]
    assert evaluated == [2, 4, 6]
    assert rows[-1]["selected_step"] == 2


def test_distillation_pulls_the_student_to_the_teacher(run, tiny_data, tmp_path):
    directory, results = run
    config = tiny.run_config(
        directory / "model",
        tiny_data,
        tmp_path / "student",
        model={"num_layers": 1},
        train={"epochs": 8},
        distill={"teacher": str(directory / "model"), "alpha": 1.0, "temperature": 3.0},
    )
    scores = train(config)
    assert scores["eval/accuracy"] >= results["eval/accuracy"] - 0.1
    model, _ = jaxft.load(str(tmp_path / "student" / "model"))
    assert model.encoder.config.num_layers == 1


@pytest.mark.parametrize(("options", "lines"), [([], 3), (["--data.empty_texts=drop"], 2)])
def test_predictions_are_aligned_with_their_rows(finished, tmp_path, capsys, options, lines):
    """A run that drops empty texts in training drops them in predictions only on request; they are counted."""
    directory = shutil.copytree(finished, tmp_path / "run")
    config = (directory / "config.yaml").read_text()
    assert "empty_texts: error" in config
    (directory / "config.yaml").write_text(config.replace("empty_texts: error", "empty_texts: drop"))
    (tmp_path / "in.csv").write_text('text,label\nriver,calm\n" ",calm\nsong,merry\n')
    argv = ["--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.jsonl"), *options]
    predict.main([str(directory), *argv])
    rows = read_jsonl(tmp_path / "out.jsonl")
    assert len(rows) == lines
    assert [i for i, row in enumerate(rows) if row["label"] is None] == ([1] if lines == 3 else [])
    assert "1 row is" in capsys.readouterr().err
