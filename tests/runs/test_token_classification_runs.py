"""Runs of token classification, from CoNLL files to predictions."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from seqeval.metrics import accuracy_score, f1_score

from jaxft import evaluate, predict
from jaxft.config import Config
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.train import train
from tests.support import read_jsonl
from tests.support.result_files import predictions_of
from tests.support.resuming import assert_resumes_to_same_model
from tests.support.tagged import DEV, LABELS, configure, write_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_files(tmp_path_factory.mktemp("conll"))


@pytest.fixture(scope="module")
def run(tiny_model, folder, tmp_path_factory) -> tuple[Config, dict]:
    config = configure(
        tiny_model,
        folder,
        tmp_path_factory.mktemp("runs") / "run",
        task={"label_pieces": "all"},
        data={"test": str(folder / "dev.conll")},
        model={"num_layers": 1},
        optim={"learning_rate": 1e-2},
        train={"epochs": 8, "batch_size": 16},
        checkpoint={"every": 10, "keep": 3},
    )
    return config, train(config)


def answers(run_or_model: Path, data: Path, folder: Path) -> list[dict]:
    predict.main([str(run_or_model), "--input", str(data), "--output", str(folder / "out.jsonl")])
    return read_jsonl(folder / "out.jsonl")


def test_a_run_learns_and_journals_every_type(run):
    config, scores = run
    assert scores["eval/f1"] > 0.8
    assert scores["test/f1"] == scores["eval/f1"]
    words = [pair for row in predictions_of(Path(config.output_dir), "test") for pair in zip(row["gold"], row["prediction"])]
    assert sum(a == b for a, b in words) / len(words) == pytest.approx(scores["test/accuracy"])
    last = json.loads((Path(config.output_dir) / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["eval/types"].keys() == {"place", "mood"}
    assert last["eval/types"]["place"].keys() == {"precision", "recall", "f1", "support"}
    model = json.loads((Path(config.output_dir) / "model" / "config.json").read_text())
    assert model["architectures"] == ["BertForTokenClassification"]
    assert sorted(model["label2id"]) == sorted(LABELS)


def test_evaluate_and_predict_agree(run, folder, tmp_path):
    config, trained = run
    directory = Path(config.output_dir)
    scores = evaluate.main([str(directory), "--data.validation", str(folder / "dev.conll")])
    assert scores["loss"] == pytest.approx(trained["eval/loss"], rel=1e-5)
    for name in ("f1", "precision", "recall", "accuracy", "types"):
        assert scores[name] == trained[f"eval/{name}"]
    found = answers(directory, folder / "dev.conll", tmp_path)
    assert [row["words"] for row in found] == [words for words, _ in DEV]
    gold, predicted = [tags for _, tags in DEV], [row["tags"] for row in found]
    assert f1_score(gold, predicted) == scores["f1"]
    assert accuracy_score(gold, predicted) == scores["accuracy"]
    for row in found:
        for entity in row["entities"]:
            assert entity["text"] == " ".join(row["words"][entity["start"] : entity["end"]])
            assert row["tags"][entity["start"]].endswith(entity["type"])
            assert 0 < entity["score"] <= 1
    # The output can be evaluated as data: the same tags are predicted.
    columns = ["--data.text", "words", "--data.label", "tags", "--data.max_length", "16"]
    again = evaluate.main([str(directory / "model"), "--data.validation", str(tmp_path / "out.jsonl"), *columns])
    assert again["f1"] == 1


def test_plain_text_is_split_into_words(run, folder, tmp_path):
    directory = Path(run[0].output_dir)
    (tmp_path / "a.csv").write_text("text\nthe stone  bridge\n.\n")
    found = answers(directory, tmp_path / "a.csv", tmp_path)
    assert [row["words"] for row in found] == [["the", "stone", "bridge"], ["."]]
    assert found[0]["text"] == "the stone  bridge"
    assert found[0]["entities"][0] | {"score": 1} == {
        "type": "place",
        "start": 4,
        "end": 17,
        "text": "stone  bridge",
        "score": 1,
    }


def test_entities_have_the_offsets_of_their_text(run, folder, tmp_path):
    """A line of a txt file is a sentence; its prediction can be evaluated as data."""
    text = "  the river,\tthe stone\u00a0bridge. the storm!"
    (tmp_path / "a.txt").write_text(f"{text}\n\n.\n", encoding="utf-8")
    found = answers(Path(run[0].output_dir), tmp_path / "a.txt", tmp_path)
    assert found[0]["text"] == text
    assert found[1] == {"text": None, "words": None, "tags": None, "entities": None}
    entities = [(x["type"], x["text"]) for x in found[0]["entities"]]
    assert entities == [("place", "river"), ("place", "stone\u00a0bridge"), ("mood", "storm")]
    for entity in found[0]["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"]
    (tmp_path / "c.jsonl").write_text(json.dumps(found[0]) + "\n")
    scores = evaluate.main([run[0].output_dir, "--data.validation", str(tmp_path / "c.jsonl")])
    assert scores["f1"] == 1


def test_a_run_that_lost_its_end_resumes_exactly(run, tmp_path):
    config, scores = run
    shutil.copytree(config.output_dir, tmp_path / "run")
    assert assert_resumes_to_same_model(replace(config, output_dir=str(tmp_path / "run")), keep=-1) == scores


def test_pytorch_predicts_the_same(run, folder, tmp_path):
    """On Hugging Face's windows, each word in the window in which its shorter side of context is longest."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForTokenClassification

    directory = Path(run[0].output_dir) / "model"
    model = AutoModelForTokenClassification.from_pretrained(directory).eval()
    tokenizer = load_tokenizer(directory)
    several = 0
    for row in answers(run[0].output_dir, folder / "dev.conll", tmp_path):
        windows = tokenizer(
            row["words"], is_split_into_words=True, truncation=True, max_length=16, stride=4, return_overflowing_tokens=True
        )
        several += len(windows["input_ids"]) > 1
        best: dict[int, tuple[int, str]] = {}
        for i, ids in enumerate(windows["input_ids"]):
            with torch.no_grad():
                predicted = model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
            of_token = windows.word_ids(i)[1:-1]
            for word in set(of_token):
                left = of_token.index(word)
                right = len(of_token) - 1 - of_token[::-1].index(word)
                context = min(left, len(of_token) - 1 - right)
                if context > best.get(word, (-1, ""))[0]:
                    best[word] = context, model.config.id2label[predicted[left + 1]]
        assert row["tags"] == [best.get(i, (0, "O"))[1] for i in range(len(row["words"]))]
    assert several > 2
