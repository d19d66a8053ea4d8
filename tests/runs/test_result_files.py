"""Files of a run that people look for: predictions with their rows, the report, Hugging Face's json files."""

import csv
import json
from collections import Counter

import pytest
import yaml

from jaxft import evaluate, predict
from jaxft.core.errors import UserError
from jaxft.report.outcomes import is_right
from jaxft.report.page import write_report
from jaxft.train import train
from tests.support import read_csv, read_jsonl, tiny


def test_predictions_stand_beside_the_rows_of_the_file(finished, tiny_data):
    rows = read_jsonl(finished / "predictions/validation.jsonl")
    given = read_csv(tiny_data / "dev.csv")
    assert [{name: row[name] for name in given[0]} for row in rows] == given
    assert [row["row"] for row in rows] == list(range(1, len(given) + 1))
    assert [row["gold"] for row in rows] == [row["label"] for row in given]
    for row in rows:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert row["prediction"] == max(row["probabilities"], key=row["probabilities"].get)
    accuracy = read_jsonl(finished / "metrics.jsonl")[-1]["eval/accuracy"]
    assert sum(map(is_right, rows)) / len(rows) == pytest.approx(accuracy)


def test_hugging_face_files_hold_the_scores_and_the_log(finished):
    rows = read_jsonl(finished / "metrics.jsonl")
    results = json.loads((finished / "all_results.json").read_text())
    assert results["eval_accuracy"] == pytest.approx(rows[-1]["eval/accuracy"])
    assert (results["time"], results["goodput"]) == (rows[-1]["time"], rows[-1]["goodput"])
    state = json.loads((finished / "trainer_state.json").read_text())
    assert [row["step"] for row in state["log_history"]] == [row["step"] for row in rows[:-1]]
    best = max(row["eval/accuracy"] for row in rows[:-1] if "eval/accuracy" in row)
    assert state["best_metric"] == best
    assert state["global_step"] == rows[-1]["step"]


def test_the_report_is_written_at_the_end_and_has_the_same_bytes_again(finished, tmp_path):
    own = (finished / "report.html").read_bytes()
    write_report([finished], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == own
    text = own.decode()
    for title in ("Results", "Training", "Labels", "Calibration", "Errors", "Data", "Plan"):
        assert f">{title}</h2>" in text


def test_figures_are_those_of_the_data_and_the_plan(finished, tiny_data):
    figures = json.loads((finished / "figures.json").read_text())
    assert {name: x["rows"] for name, x in figures["splits"].items()} == {"train": 100, "validation": 30}
    rows = read_csv(tiny_data / "train.csv")
    assert figures["splits"]["train"]["labels"] == dict(sorted(Counter(row["label"] for row in rows).items()))
    assert sum(count for _, count in figures["splits"]["train"]["lengths"]) == 100
    texts = {name: [row["text"] for row in read_csv(tiny_data / f"{name}.csv")] for name in ("train", "dev")}
    assert figures["splits"]["train"]["repeated"] == len(texts["train"]) - len(set(texts["train"]))
    assert figures["splits"]["validation"]["in_train"] == sum(text in texts["train"] for text in texts["dev"])
    (group,) = figures["groups"]
    steps = [row for row in read_jsonl(finished / "metrics.jsonl") if "learning_rate" in row]
    drawn = dict(zip(group["steps"], group["learning_rates"], strict=True))
    assert [drawn[row["step"]] for row in steps] == pytest.approx([row["learning_rate"] for row in steps], rel=1e-4)


def test_the_model_has_a_card_with_its_scores(finished):
    text = (finished / "model/README.md").read_text()
    accuracy = read_jsonl(finished / "metrics.jsonl")[-1]["eval/accuracy"]
    front = yaml.safe_load(text.split("---")[1])
    values = {x["type"]: x["value"] for x in front["model-index"][0]["results"][0]["metrics"]}
    assert values["accuracy"] == pytest.approx(accuracy)


def test_evaluate_writes_errors_and_all_predictions(finished, tiny_data, tmp_path, capsys):
    """Of a file with another column, whose name is also a field of ours."""
    rows = read_csv(tiny_data / "test.csv")
    with open(tmp_path / "test.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "score", *rows[0]])
        writer.writeheader()
        writer.writerows({"id": f"n{i}", "score": "x", **row} for i, row in enumerate(rows))
    files = {"predictions": tmp_path / "all.jsonl", "output": tmp_path / "errors.csv"}
    options = [f"--{name}={path}" for name, path in files.items()]
    scores = evaluate.main([str(finished), "--data.validation", str(tmp_path / "test.csv"), *options])
    assert json.loads(capsys.readouterr().out)["accuracy"] == scores["accuracy"]
    written = read_jsonl(files["predictions"])
    assert [row["id"] for row in written] == [f"n{i}" for i in range(len(rows))]
    assert {row["input_score"] for row in written} == {"x"}
    errors = read_csv(files["output"])
    assert len(errors) == round(len(rows) * (1 - scores["accuracy"])) > 0
    assert all(row["gold"] != row["prediction"] for row in errors)
    of_gold = [json.loads(row["probabilities"])[row["gold"]] for row in errors]
    assert of_gold == sorted(of_gold)


def test_predict_keeps_columns_on_request(finished, tiny_data, tmp_path):
    (tmp_path / "in.jsonl").write_text(
        '{"text": "a lake", "label": 7, "when": "May"}\n{"text": " ", "label": 8, "when": null}\n'
    )
    out = tmp_path / "out.jsonl"
    predict.main([str(finished), "--input", str(tmp_path / "in.jsonl"), "--output", str(out), "--keep_columns"])
    first, empty = read_jsonl(out)
    assert {name: first[name] for name in ("text", "input_label", "when")} == {
        "text": "a lake",
        "input_label": 7,
        "when": "May",
    }
    assert first["label"] in first["scores"]
    assert empty == {"text": " ", "input_label": 8, "when": None, "label": None, "score": None, "scores": None}


def test_files_that_cannot_be_written_are_refused(finished, tmp_path):
    for options, words in {
        ("--output=errors.xlsx",): ".csv or .jsonl",
        ("--output=-",): "standard output",
        ("--output=a.csv", "--predictions=a.csv"): "different names",
    }.items():
        with pytest.raises(UserError, match=words):
            evaluate.main([str(finished), *options])


def test_a_fault_in_files_about_a_run_does_not_end_it(tiny_model, tiny_data, tmp_path, monkeypatch, capsys):
    def fault(*_):
        raise ZeroDivisionError("three\nlines")

    for name in (
        "training.result_files.write_report",
        "preflight.figures.write",
        "evaluation.labelled_predictions.write_rows",
    ):
        monkeypatch.setattr(f"jaxft.{name}", fault)
    train(tiny.run_config(tiny_model, tiny_data, tmp_path / "run", model=tiny.NO_DROPOUT, train={"max_steps": 1}))
    said = capsys.readouterr().err
    for file in ("figures.json", "predictions/validation.jsonl", "report.html"):
        assert f"{tmp_path}/run/{file} could not be written: ZeroDivisionError: three lines\n" in said
    assert (tmp_path / "run/model/model.safetensors").is_file()


def test_no_files_about_a_run_are_written_without_the_options(tiny_model, tiny_data, tmp_path):
    log = {"report": False, "predictions": False}
    train(tiny.run_config(tiny_model, tiny_data, tmp_path / "run", model=tiny.NO_DROPOUT, train={"max_steps": 1}, log=log))
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert not names & {"report.html", "predictions", "figures.json", "all_results.json", "trainer_state.json"}
