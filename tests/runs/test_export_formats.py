"""Artefacts of a finished run: their files, what export.json says, and that they answer like the model."""

import json
import os
import runpy
import sys

import numpy as np
import pytest
from scipy.special import softmax
from tokenizers import Tokenizer

from jaxft import evaluate, export, pipeline, predict
from jaxft.core.errors import UserError
from tests.support import read_jsonl, tiny

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def test_an_onnx_file_answers_like_the_run(finished, tiny_data, tmp_path, capsys):
    """With the packages onnxruntime and tokenizers alone, on the texts of a file."""
    output = tmp_path / "deep" / "onnx"
    export.main([str(finished), "--format", "onnx", "--output", str(output)])
    assert "the largest difference from the model" in capsys.readouterr().out
    record = json.loads((output / "export.json").read_text())
    assert record["replay"]["inputs"] == f"30 rows of {tiny_data / 'dev.csv'}"
    assert 0 <= record["replay"]["relative"] <= 1e-5
    assert (record["format"], record["opset"], record["outputs"]) == ("onnx", 20, ["logits"])
    assert {"jaxft", "jax", "onnx", "onnxruntime"} <= record["versions"].keys()
    assert {"model.onnx", "config.json", "export.json", "tokenizer_config.json"} <= set(os.listdir(output))
    assert os.listdir(tmp_path / "deep") == ["onnx"]

    predict.main([str(finished), "--input", str(tiny_data / "test.csv"), "--output", str(tmp_path / "right.jsonl")])
    right = read_jsonl(tmp_path / "right.jsonl")
    tokenizer = Tokenizer.from_file(str(output / "tokenizer.json"))
    tokenizer.enable_truncation(record["max_length"])
    tokenizer.enable_padding()
    texts = [line.rsplit(",", 1)[0] for line in (tiny_data / "test.csv").read_text().splitlines()[1:]]
    encoded = tokenizer.encode_batch(texts)
    columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    inputs = {name: np.asarray([getattr(x, column) for x in encoded]) for name, column in columns.items()}
    session = onnxruntime.InferenceSession(output / "model.onnx")
    (logits,) = session.run(None, inputs)
    labels = json.loads((output / "config.json").read_text())["id2label"]
    assert [labels[str(i)] for i in logits.argmax(1)] == [row["label"] for row in right]


def test_a_model_without_data_is_replayed_on_random_ids(classifier, tmp_path):
    export.main([str(classifier), "--format", "onnx", "--output", str(tmp_path / "out")])
    replay = json.loads((tmp_path / "out" / "export.json").read_text())["replay"]
    assert replay["inputs"] == "random ids"
    assert replay["relative"] <= 1e-5


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_weights_that_are_too_large_for_one_file_have_a_second(finished, tmp_path, monkeypatch, dtype):
    from jaxft.deploy.onnx import artefact

    monkeypatch.setattr(artefact, "_LARGEST", 1000)
    export.main([str(finished), "--format", "onnx", "--dtype", dtype, "--output", str(tmp_path / "out")])
    assert (tmp_path / "out/model.onnx").is_file()
    assert (tmp_path / "out/model.onnx.data").stat().st_size > 1000


def test_an_artefact_that_is_not_the_model_is_not_written(classifier, tmp_path, monkeypatch):
    from jaxft.deploy.onnx import artefact, write

    def wrong(model, params, dtype):
        params = tiny.random_params(model, seed=5)
        return write.model_graph(model, params, dtype)

    monkeypatch.setattr(artefact, "model_graph", wrong)
    with pytest.raises(UserError, match="differ from the model's"):
        export.main([str(classifier), "--format", "onnx", "--output", str(tmp_path / "out")])
    assert not os.listdir(tmp_path)


def test_an_int8_file_has_the_scores_beside_those_of_float32(finished, tiny_data, tmp_path, capsys):
    argv = ["--format", "onnx", "--dtype", "int8", "--max_drop", "0.5", "--output", str(tmp_path / "int8")]
    export.main([str(finished), "--data.validation", str(tiny_data / "test.csv"), *argv])
    scores = json.loads((tmp_path / "int8" / "export.json").read_text())["scores"]
    right = evaluate.main([str(finished), "--data.validation", str(tiny_data / "test.csv")])
    assert (scores["metric"], scores["float32"]) == ("accuracy", right["accuracy"])
    assert scores["all"]["int8"]["loss"] == pytest.approx(right["loss"], rel=0.1)
    assert scores["all"]["int8"]["loss"] != right["loss"]
    assert "in float32" in capsys.readouterr().out


def test_a_stablehlo_program_runs_with_its_own_script(classifier, tmp_path, capsys, monkeypatch):
    output = tmp_path / "program"
    export.main([str(classifier), "--format", "stablehlo", "--output", str(output)])
    record = json.loads((output / "export.json").read_text())
    assert record["platforms"] == ["cpu", "cuda", "tpu"]
    assert record["replay"]["relative"] <= 1e-5
    texts = ["the old river", "a bright stone runs under the bridge"]
    monkeypatch.setattr(sys, "argv", ["run.py", *texts])
    capsys.readouterr()
    runpy.run_path(str(output / "run.py"))
    logits = np.asarray(json.loads(capsys.readouterr().out)["logits"])
    right = pipeline(classifier)(texts, top_k=None)
    probabilities = softmax(logits, axis=-1)
    for row, answer in zip(probabilities, right, strict=True):
        assert sorted(row) == pytest.approx(sorted(x["score"] for x in answer), abs=1e-5)

    (output / "model.stablehlo").write_bytes(b"of another version")
    with pytest.raises(SystemExit, match=r"made by jax .*cannot read it.*make it again with python -m jaxft.export"):
        runpy.run_path(str(output / "run.py"))
