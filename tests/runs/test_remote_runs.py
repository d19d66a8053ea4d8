"""Runs whose data and models are at URLs are the runs on the same files here."""

import json
import os
import shutil
import signal
from dataclasses import replace

import pytest
import yaml

import jaxft
from jaxft import evaluate, export, predict
from jaxft.core.signals import Stopped
from jaxft.report import __main__ as write_report
from jaxft.train import train
from jaxft.training import integrity
from jaxft.training.callbacks import Callback
from tests.support import read_jsonl, tiny
from tests.support.resuming import MODEL, journal, short_config
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
    export.main([url(there / "run")])
    assert f"wrote the model of step 7 to {url(there / 'run')}/model" in capfd.readouterr().out
    assert (there / "run" / MODEL).read_bytes() == (finished / MODEL).read_bytes()
    write_report.main([url(there / "run")])
    assert (there / "run/report.html").stat().st_mtime > (there / "run/metrics.jsonl").stat().st_mtime
    model, params = jaxft.load(url(there / "run/model"))
    jaxft.save(model, params, url(there / "saved"))
    assert (there / "saved/model.safetensors").read_bytes() == (there / "run" / MODEL).read_bytes()
    assert not list((tmp_path / "cache/outputs").iterdir())


class Signal(Callback):
    """Sends a SIGTERM to this process after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step(self, step) -> None:
        if step.number == self._step:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_at_a_url_resumes_on_another_machine_and_ends_as_a_local_one(there, tmp_path, monkeypatch, capfd):
    where, here = url(there / "runs/mine"), tmp_path / "here"
    config = short_config(there / "model", there / "data", here, checkpoint={"every": 3, "keep": 2})
    train(config)
    with pytest.raises(Stopped, match=f"step 5 is saved in {where}; the same command resumes there"):
        train(replace(config, output_dir=where), callbacks=[Signal(4)])
    assert integrity.steps(there / "runs/mine") == [3, 5]
    assert not (there / "runs/mine/run.lock").exists()
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "another_machine"))
    train(replace(config, output_dir=where))
    printed = capfd.readouterr().err
    assert "resuming at step 5" in printed
    assert f"in {where}/model" in printed
    assert str(tmp_path / "another_machine/runs") not in printed
    there = there / "runs/mine"
    assert (there / MODEL).read_bytes() == (here / MODEL).read_bytes()
    assert journal(there) == journal(here)
    assert integrity.steps(there) == [6, 7]
    assert all(integrity.verify(there, step).damage is None for step in (6, 7))
    assert {x.name for x in there.iterdir()} == {x.name for x in here.iterdir()} | {"session.json"}
    assert yaml.safe_load((there / "config.yaml").read_text())["output_dir"] == where
