"""Question answering as users run it: layouts and devices, train, evaluate, predict, resume, and what goes wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxft import evaluate, predict
from jaxft.core.errors import UserError
from jaxft.models.weights.tensor_files import open_weights
from jaxft.run.setup import make_run
from jaxft.train import train
from jaxft.training.loop import Loop
from tests.support import official_squad, questions, read_jsonl, tiny
from tests.support.questions import configure
from tests.support.result_files import predictions_of, share_right
from tests.support.steps import assert_same, gradients, rearranged


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """train.json (short contexts; as many windows as support/steps.py needs), dev.json and test.json."""
    folder = tmp_path_factory.mktemp("questions")
    questions.write(folder / "train.json", questions.make(88, seed=0, unanswerable=0.3, longest=34))
    questions.write(folder / "dev.json", questions.make(30, seed=1, unanswerable=0.4, longest=34))
    questions.write(folder / "test.json", questions.make(20, seed=2, unanswerable=0.4, longest=34))
    return folder


LAYOUTS = {
    "bucket": {"layout": "bucket"},
    "pack, 5 micro-batches": {"micro_batches": 5},
    "pack, 8 devices, 2 micro-batches": {"data": 4, "fsdp": 2, "micro_batches": 2},
}


@pytest.fixture(scope="module")
def distilled(data, tmp_path_factory):
    """A run whose loss is the mean of the labels' and of a teacher's, so that it tests both."""
    student, teacher = (questions.write_model(tmp_path_factory.mktemp("m") / "m", seed=seed) for seed in (0, 5))
    sections = {
        "model": tiny.NO_DROPOUT | {"path": str(student)},
        "data": {"validation": None},
        "distill": {"teacher": str(teacher), "alpha": 0.5, "temperature": 2.0},
    }
    run = make_run(configure(student, data, tmp_path_factory.mktemp("runs") / "run", **sections))
    assert 96 < len(run.data["train"].examples) < 112  # the last of 7 steps is not full
    return run, gradients(rearranged(run, "pad"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_do_not_depend_on_the_layout(distilled, layout):
    assert_same(rearranged(distilled[0], **LAYOUTS[layout]), distilled[1])


class Stop(Exception):
    """Ends a run in the middle."""


@pytest.mark.slow
def test_a_run_from_training_to_pytorch(tiny_model, data, tmp_path, monkeypatch, capsys):
    """The run is resumed exactly, evaluated, read by PyTorch, and its predictions are scored by the official rules."""
    sections = {
        "data": {"test": str(data / "test.json")},
        "optim": {"learning_rate": 1e-2},
        "train": {"epochs": 6, "batch_size": 16},
        "checkpoint": {"every": 5},
        "log": {"every": 1, "progress": False},
    }
    directory = tmp_path / "run"
    results = train(configure(tiny_model, data, directory, **sections))
    assert results["eval/f1"] > 40  # above what never answering gets
    assert 100 * share_right(directory) == pytest.approx(results["eval/exact_match"])
    rows = predictions_of(directory)
    assert all(row["context"][row["start"] : row["end"]] == row["prediction"] for row in rows if row["prediction"])
    assert 0 < results["eval/HasAns_f1"] <= 100
    assert results["eval/HasAns_total"] + results["eval/NoAns_total"] == 30
    rows = read_jsonl(directory / "metrics.jsonl")
    assert rows[-1]["eval/f1"] == max(row["eval/f1"] for row in rows if "eval/f1" in row)
    model = directory / "model"
    stored = json.loads((model / "config.json").read_text())
    assert stored["architectures"] == ["BertForQuestionAnswering"]
    own = {"unanswerable": True, "null_threshold": results["eval/null_threshold"]}
    assert stored["task_specific_params"] == {"jaxft": own}

    check = Loop._check_finite

    def stopping(self, step):
        check(self, step)
        if step.number == 23:
            raise Stop

    other = configure(tiny_model, data, tmp_path / "other", **sections)
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_check_finite", stopping)
        with pytest.raises(Stop):
            train(other)
    capsys.readouterr()
    assert train(other) == results
    assert "resuming at step 20" in capsys.readouterr().err
    ours, theirs = (open_weights(folder / "model")[0] for folder in (directory, tmp_path / "other"))
    assert all(ours[name].read().tobytes() == theirs[name].read().tobytes() for name in theirs)

    for path in (directory, model):
        argv = [str(path), "--data.validation", str(data / "dev.json"), "--data.max_length", "32", "--data.stride", "8"]
        scores = evaluate.main(argv)
        for name, value in scores.items():
            assert value == pytest.approx(results[f"eval/{name}"], rel=1e-5), name
    gold = questions.make(20, seed=2, unanswerable=0.4, longest=34)
    for form in ("json", "jsonl"):
        predict.main([str(directory), "--input", str(data / "test.json"), "--output", str(tmp_path / f"out.{form}")])
    answers = read_jsonl(tmp_path / "out.jsonl")
    predictions = json.loads((tmp_path / "out.json").read_text())
    assert predictions == {row["id"]: row["answer"] for row in answers}
    assert list(predictions) == [row["id"] for row in gold]
    official = official_squad.evaluate({row["id"]: row["answers"]["text"] for row in gold}, predictions)
    assert official == pytest.approx({name: results[f"test/{name}"] for name in official}, abs=1e-9)
    for row, asked in zip(answers, gold, strict=True):
        if row["answer"]:
            assert asked["context"][row["start"] : row["end"]] == row["answer"]
        assert sum(answer["score"] for answer in row["n_best"]) == pytest.approx(1, abs=1e-4)
    assert_pytorch(model, gold)


def assert_pytorch(directory: Path, gold: list[dict]) -> None:
    """The model directory is a Hugging Face model that gives the same logits."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    import jaxft
    from tests.support.zoo_torch import from_pretrained

    theirs = from_pretrained(AutoModelForQuestionAnswering, directory)
    texts = [[row[name] for row in gold[:6]] for name in ("question", "context")]
    inputs = AutoTokenizer.from_pretrained(directory)(*texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = theirs(**inputs)
    found = jaxft.forward(*jaxft.load(str(directory)), {name: x.numpy() for name, x in inputs.items()})
    real = inputs["attention_mask"].numpy() == 1
    for name in ("start_logits", "end_logits"):
        right = expected[name].numpy()[real]
        assert np.abs(found[name][real] - right).max() <= 1e-5 * np.abs(right).max()


def test_a_model_directory_answers_questions_of_a_csv_file(tmp_path, data, capsys):
    """Without a run, ids or the usual column names; the options alone decide about unanswerable questions."""
    model = questions.write_model(tmp_path / "model")
    (tmp_path / "in.csv").write_text('ask,text\nthe storm,"the old storm runs"\nthe sun,"a sun and a lake"\n')
    columns = ["--data.question", "ask", "--data.context", "text", "--data.max_length", "32"]
    predict.main([str(model), "--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "o.jsonl"), *columns])
    rows = read_jsonl(tmp_path / "o.jsonl")
    assert [row["id"] for row in rows] == ["1", "2"]
    assert all(row["answer"] and "null_odds" not in row for row in rows)
    (tmp_path / "in.csv").write_text(f'ask,text\nthe storm,"the old storm"\n{"river " * 40},the sun and a lake\n')
    predict.main([str(model), "--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "o.jsonl"), *columns])
    rows = read_jsonl(tmp_path / "o.jsonl")
    assert rows[0]["answer"]
    assert rows[1] == {name: "2" if name == "id" else None for name in rows[0]}  # the question leaves no space
    assert "1 row is null: no usable text" in capsys.readouterr().err
    (tmp_path / "in.csv").write_text("id,ask,text\n" + 'a,the storm,"the old storm"\n' * 2)
    argv = [str(model), "--input", str(tmp_path / "in.csv"), *columns]
    predict.main([*argv, "--output", str(tmp_path / "o.jsonl")])
    first, second = (tmp_path / "o.jsonl").read_text().splitlines()
    assert first == second
    with pytest.raises(UserError, match='questions 1 and 2 have the id "a"'):
        predict.main([*argv, "--output", str(tmp_path / "o.json")])
    argv = [str(model), "--data.validation", str(data / "dev.json"), "--data.max_length", "32"]
    scores = evaluate.main([*argv, "--task.unanswerable", "true", "--task.null_threshold", "-1000"])
    assert (scores["NoAns_f1"], scores["HasAns_f1"]) == (100, 0)


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        (
            questions.make(2, seed=0, unanswerable=1),
            {},
            ["train.json", 'question "q0-0" has no answer', "task.unanswerable"],
        ),
        (questions.make(1, seed=0) * 2, {}, ["train.json", 'the id "q0-0" occurs twice']),
        (questions.make(1, seed=0), {"data.stride": 31}, ["data.stride is 31", "29 tokens"]),
        (questions.make(1, seed=0), {"task.name": "text-classification"}, ["train.json", 'no column "text"']),
        ([], {}, ["train.json", "no questions"]),
    ],
)
def test_bad_input_is_refused_in_one_line(fails, tiny_model, tmp_path, rows, options, words):
    settings = {
        "model.path": tiny_model,
        "task.name": "question-answering",
        "data.train": questions.write(tmp_path / "train.json", rows),
        "data.max_length": 32,
        "output_dir": tmp_path / "run",
    }
    fails("train", [f"--{name}={value}" for name, value in (settings | options).items()], *words)
    assert not (tmp_path / "run").exists()
