"""Runs with texts of another domain: what they log and save, runs that are killed, and `jaxft weigh`."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open

from jaxft import export, weigh
from jaxft.config import cli
from jaxft.train import train
from tests.support import read_jsonl, tiny
from tests.support.resuming import MODEL, copy_run_at, journal, kill_repeatedly

WORDS = ["old", "stone", "bridge"]
METRICS = {f"domains/{name}" for name in ("loss", "accuracy", "lambda")}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Texts of few words, which a classifier tells from the training texts."""
    rng = random.Random(0)
    rows = [{"text": " ".join(rng.choices(WORDS, k=rng.randint(2, 8)))} for _ in range(40)]
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def configure(model, data, output, texts, **domains):
    sections = {"model": {"path": str(model)}, "checkpoint": {"every": 3, "keep": 9, "select": "last"}}
    sections |= {"log": {"every": 1, "progress": False}, "eval": {"every": "end"}}
    return tiny.run_config(model, data, output, domains={"texts": str(texts), "per_step": 9, **domains}, **sections)


@pytest.fixture(scope="module")
def done(classifier, tiny_data, texts, tmp_path_factory):
    """(directory, results) of a finished run, with dropout."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    return directory, train(configure(classifier, tiny_data, directory, texts))


def test_the_journal_shows_what_the_classifier_learns(done):
    directory, _ = done
    rows = [row for row in read_jsonl(directory / "metrics.jsonl") if "learning_rate" in row]
    assert all(row.keys() >= METRICS for row in rows)
    assert [row["domains/lambda"] for row in rows][:2] == pytest.approx([0, 0.1 * np.tanh(10 / 14 / 2)], rel=1e-5)
    assert all(0 <= row["domains/accuracy"] <= 1 and row["loss"] > row["domains/loss"] for row in rows)
    assert rows[3]["domains/accuracy"] > 0.6


def test_the_model_is_an_ordinary_one(done, tmp_path):
    """Without the classifier; also as written from a checkpoint, without the data."""
    directory, _ = done
    with safe_open(directory / MODEL, framework="np") as file:
        assert not [name for name in file.keys() if "domain" in name]  # noqa: SIM118
    copy_run_at(10**6, directory, tmp_path / "moved")
    values = cli.read_yaml(tmp_path / "moved/config.yaml")
    values["domains"]["texts"] = values["data"]["train"] = str(tmp_path / "gone.csv")
    (tmp_path / "moved/config.yaml").write_text(json.dumps(values))
    export.main([str(tmp_path / "moved"), "--output", str(tmp_path / "out")])
    assert (tmp_path / "out/model.safetensors").read_bytes() == (directory / MODEL).read_bytes()


def test_a_resumed_run_draws_the_same_texts(done, classifier, tiny_data, tmp_path, texts, capsys):
    """In the second epoch, whose texts go on where those of the first ended."""
    directory, _ = done
    copy_run_at(9, directory, tmp_path / "half")
    train(configure(classifier, tiny_data, tmp_path / "half", texts))
    assert (tmp_path / "half" / MODEL).read_bytes() == (directory / MODEL).read_bytes()
    assert journal(tmp_path / "half") == journal(directory)
    printed = capsys.readouterr().err
    assert f"domains: data.train 100, {texts} 40 texts" in printed
    assert "domain-adversarial training: 9 target texts beside 16 examples in each step; lambda rises to 0.1" in printed


def test_other_texts_are_refused(done, tmp_path, texts, fails):
    directory, _ = done
    copy_run_at(6, directory, tmp_path / "half")
    other = tmp_path / "texts.jsonl"
    other.write_text(texts.read_text() + '{"text": "a river"}\n')
    values = cli.read_yaml(tmp_path / "half/config.yaml")
    fails(
        "train",
        [tmp_path / "half/config.yaml", f"--output_dir={tmp_path / 'half'}", f"--domains.texts={other}"],
        "domains.texts",
    )
    assert values["domains"]["texts"] == str(texts)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bits(done, classifier, tiny_data, tmp_path, texts):
    directory, _ = done
    config = configure(classifier, tiny_data, tmp_path / "killed", texts)
    kill_repeatedly(config, (2, 8))
    train(config)
    assert journal(tmp_path / "killed") == journal(directory)
    assert (tmp_path / "killed" / MODEL).read_bytes() == (directory / MODEL).read_bytes()


@pytest.mark.slow
def test_an_adapter_has_no_classifier(classifier, tiny_data, tmp_path, texts):
    config = configure(classifier, tiny_data, tmp_path / "run", texts)
    train(replace(config, plan=replace(config.plan, preset="lora"), train=replace(config.train, max_steps=3)))
    with safe_open(tmp_path / "run/model/adapter_model.safetensors", framework="np") as file:
        names = list(file.keys())
    assert names
    assert not [name for name in names if "domain" in name]
    assert "domain" not in (tmp_path / "run/model/adapter_config.json").read_text()


def test_rows_are_weighed_by_their_likeness_to_texts(classifier, tiny_data, tmp_path, texts, capsys):
    """The weights have mean 1, texts of the target's words have more, and a run uses the file."""
    config = tiny.run_config(classifier, tiny_data, tmp_path / "run", data={"validation": None})
    (tmp_path / "c.yaml").write_text(cli.dump(config))
    output = tmp_path / "weighed.jsonl"
    argv = [str(tmp_path / "c.yaml"), "--target", str(texts)]
    weigh.main([*argv, "--output", str(output)])
    assert "AUC" in capsys.readouterr().err
    rows = read_jsonl(output)
    assert [(row["text"], row["label"]) for row in rows] == [
        tuple(line.split(",")) for line in (tiny_data / "train.csv").read_text().splitlines()[1:]
    ]
    weights = [row["weight"] for row in rows]
    assert sum(weights) / len(weights) == pytest.approx(1, abs=1e-5)
    words = [row["text"].split() for row in rows]
    share = [sum(word in WORDS for word in own) / len(own) for own in words]
    high = [x for x, s in zip(weights, share, strict=True) if s > 0.3]
    low = [x for x, s in zip(weights, share, strict=True) if s == 0]
    assert sum(high) / len(high) > 2 * sum(low) / len(low)


@pytest.mark.slow
def test_a_run_uses_weights_that_embeddings_give(classifier, tiny_data, tmp_path, texts):
    config = tiny.run_config(classifier, tiny_data, tmp_path / "run", data={"validation": None})
    (tmp_path / "c.yaml").write_text(cli.dump(config))
    output, options = str(tmp_path / "weighed.parquet"), ["--features", "mean", "--clip", "2", "--column", "share"]
    weigh.main([str(tmp_path / "c.yaml"), "--target", str(texts), "--output", output, *options])
    used = {"train": output, "validation": None, "weight": "share"}
    train(tiny.run_config(classifier, tiny_data, tmp_path / "run", data=used, train={"max_steps": 2}))
    losses = [row["loss"] for row in read_jsonl(tmp_path / "run/metrics.jsonl") if "loss" in row]
    train(tiny.run_config(classifier, tiny_data, tmp_path / "plain", data={"validation": None}, train={"max_steps": 2}))
    assert losses != [row["loss"] for row in read_jsonl(tmp_path / "plain/metrics.jsonl") if "loss" in row]
