"""Runs whose data and models are at URLs are the runs on the same files here."""

import json
import shutil

import pytest
import yaml

from jaxft import evaluate, predict
from jaxft.train import train
from tests.support import read_jsonl, tiny
from tests.support.stand_in import stand_in, url


@pytest.fixture
def there(tmp_path, monkeypatch, tiny_model, tiny_data):
    """The folder that the stand-in serves, with model/ and data/; the cache folder is the test's own."""
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "cache"))
    stand_in()
    shutil.copytree(tiny_model, tmp_path / "there/model")
    shutil.copytree(tiny_data, tmp_path / "there/data")
    return tmp_path / "there"


def test_a_run_on_data_and_a_model_at_urls(there, finished, tmp_path, capfd):
    data = {"train": url(there / "data/tr*.csv"), "validation": url(there / "data/dev.csv")}
    model = tiny.NO_DROPOUT | {"path": url(there / "model")}
    train(tiny.run_config(there, there, tmp_path / "run", model=model, data=data, train={"epochs": 1}))
    weights = "model/model.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (finished / weights).read_bytes()
    recorded = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert (recorded["model"]["path"], recorded["data"]["train"]) == (url(there / "model"), url(there / "data/tr*.csv"))
    assert str(tmp_path / "cache/remote") not in capfd.readouterr().err


def test_a_run_at_a_url_is_evaluated_and_predicts(there, finished, tmp_path, capfd):
    shutil.copytree(finished, there / "run")
    scores = evaluate.main([url(there / "run"), "--data.validation", url(there / "data/dev.csv")])
    assert scores["accuracy"] == json.loads((finished / "all_results.json").read_text())["eval_accuracy"]
    given = ["--input", url(there / "data/test.csv"), "--data.max_length", "32", "--output"]
    predict.main([url(there / "run/model"), *given, url(there / "out/there.jsonl")])
    assert f"wrote 30 predictions to {url(there / 'out/there.jsonl')}" in capfd.readouterr().err
    predict.main([str(finished / "model"), *given, str(tmp_path / "here.jsonl")])
    assert read_jsonl(there / "out/there.jsonl") == read_jsonl(tmp_path / "here.jsonl")
    assert not list((tmp_path / "cache/outputs").iterdir())
