"""`jaxft.Trainer`: a run from Python with data and a model in memory, and what it gives back."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jaxft
from jaxft import evaluate, predict
from jaxft.config import Config, DataConfig, TrainConfig, cli
from jaxft.core.errors import UserError
from jaxft.data.reading.files import files_of
from jaxft.train import train
from tests.support import read_csv, read_jsonl, tiny
from tests.support.resuming import MODEL, copy_run_at, journal

OPTIONS = {
    "optim": {"learning_rate": 3e-2},
    "plan": {"preset": "head"},
    "train": {"epochs": 1, "batch_size": 16},
    "checkpoint": {"every": 3, "keep": 9},
    "mesh": {"data": 1},
    "log": {"every": 2, "progress": False},
    "runtime": {"distributed": "off", "unroll": 1},
}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("trainer") / "start", num_hidden_layers=1)


@pytest.fixture(scope="module")
def data(tiny_data):
    """The data of tiny_data in memory."""
    splits = {"train": read_csv(tiny_data / "train.csv"), "validation": read_csv(tiny_data / "dev.csv")}
    return {**splits, "max_length": 32, "shapes": 1}


@pytest.fixture(scope="module")
def trained(start, data, tmp_path_factory):
    """(a trained Trainer with data and a model in memory, its results)."""
    folder = tmp_path_factory.mktemp("trainer")
    run = jaxft.Trainer(output_dir=str(folder / "run"), model={"path": jaxft.load(str(start))}, data=data, **OPTIONS)
    return run, run.train()


def test_rows_and_a_model_in_memory_train_as_those_of_files(trained, start, tiny_data, tmp_path, capsys):
    run, results = trained
    files = {"train": tiny_data / "train.csv", "validation": str(tiny_data / "dev.csv"), "max_length": 32, "shapes": 1}
    other = jaxft.Trainer(output_dir=str(tmp_path / "run"), model={"path": start}, data=files, **OPTIONS)
    assert other.history == []
    assert other.train() == results
    assert capsys.readouterr().out == ""
    assert (run.output_dir / MODEL).read_bytes() == (other.output_dir / MODEL).read_bytes()
    assert journal(run.output_dir) == journal(other.output_dir)
    assert (whole := other.history) == read_jsonl(other.output_dir / "metrics.jsonl")
    again = jaxft.Trainer(run.config)
    assert again.config == run.config
    assert again.history[-1]["final"]
    with open(other.output_dir / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "lo')  # of a process that was killed
    assert other.history == whole


def test_scores_and_predictions_are_those_of_the_commands(trained, data, tiny_data, tmp_path, capsys):
    run, results = trained
    scores = run.evaluate("validation")
    assert scores["accuracy"] == results["eval/accuracy"]
    rows = data["validation"]
    assert (
        run.evaluate({name: [row[name] for row in rows] for name in rows[0]})
        == run.evaluate(tiny_data / "dev.csv")
        == scores
    )
    found = run.predict([{"text": row["text"]} for row in rows])
    assert run.predict([{"text": "the river"}, {"text": ""}])[-1]["label"] is None
    assert capsys.readouterr().out == ""
    assert evaluate.main([str(run.output_dir)]) == scores
    predict.main([str(run.output_dir), "--input", str(tiny_data / "dev.csv"), "--output", str(tmp_path / "found.jsonl")])
    assert found == read_jsonl(tmp_path / "found.jsonl")
    run.save(tmp_path / "saved")
    assert (tmp_path / "saved/model.safetensors").read_bytes() == (run.output_dir / MODEL).read_bytes()
    with pytest.raises(UserError, match=r"saved: is not empty; give a new or empty directory"):
        run.save(tmp_path / "saved")


def test_an_interrupted_run_is_resumed_by_trainer_and_by_the_command(trained, tmp_path):
    """Both name the same files in the cache folder."""
    run, results = trained
    for name, resume in (("trainer", lambda config: jaxft.Trainer(config).train()), ("command", train)):
        copy_run_at(3, run.output_dir, tmp_path / name)
        values = cli.read_yaml(run.output_dir / "config.yaml") | {"output_dir": str(tmp_path / name)}
        assert resume(cli.parse(values, [], origin="test")) == results
        assert (tmp_path / name / MODEL).read_bytes() == (run.output_dir / MODEL).read_bytes()


def test_sections_replace_the_options_of_a_config(tmp_path):
    (tmp_path / "a.yaml").write_text("train: {epochs: 2, batch_size: 4}\nseed: 3\n")
    expected = Config(train=TrainConfig(epochs=1, batch_size=4), seed=5)
    assert jaxft.Trainer(tmp_path / "a.yaml", train={"epochs": 1}, seed=5).config == expected
    assert jaxft.Trainer(Config(train=TrainConfig(batch_size=4)), train={"epochs": 1}, seed=5).config == expected


def test_every_kind_of_rows_is_written_once():
    import datasets
    import pandas as pd

    rows = [{"text": "a lake", "label": "calm"}, {"text": "a storm", "label": "angry"}]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    kinds = [rows, columns, pa.table(columns), pd.DataFrame(rows, index=[5, 7])]
    files = [jaxft.Trainer(data={"train": kind}).config.data.train for kind in kinds]
    assert all(pq.read_table(file).to_pylist() == rows for file in files)
    assert files[0] == files[1] == files[2] == jaxft.Trainer(data={"train": rows}).config.data.train
    named = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["merry", "calm", "angry"])}
    )
    hub = datasets.Dataset.from_dict({"text": ["x", *columns["text"]], "label": [0, 1, 2]}, features=named).select([1, 2])
    file = jaxft.Trainer(data={"train": hub, "dataset": "some/set"}).config.data
    assert file.dataset is None
    assert datasets.Dataset.from_parquet(str(file.train)).features["label"].names == ["merry", "calm", "angry"]


@pytest.mark.parametrize(
    ("sections", "wrong"),
    [
        ({"trian": {}}, 'jaxft.Trainer: unknown option "trian"; did you mean "train"?'),
        ({"train": {"epoch": 1}}, 'jaxft.Trainer: unknown option "train.epoch"; did you mean "train.epochs"?'),
        ({"train": {"epochs": -1}}, "train.epochs is -1"),
        ({"train": {"epochs": "many"}}, "jaxft.Trainer: train.epochs is many: must be a number"),
        ({"data": {"train": [{"text": "a", "label": 1}, {"text": "b"}]}}, 'data.train: row 2 has no column "label"'),
        ({"data": {"train": [{"text": "a"}, {"text": 3}]}}, "data.train: the rows do not make a table: "),
        ({"data": {"train": {"text": ["a"], "label": []}}}, "data.train: the rows do not make a table: "),
        ({"data": {"train": []}}, "data.train is an empty list"),
        ({"data": {"train": [{"text": "a"}, "b"]}}, "data.train is a list with a str: must be a list of dicts, "),
        ({"data": {"train": 3}}, "data.train is a int: must be a list of dicts, "),
        ({"data": {"train": {"text": "a lake"}}}, 'data.train: column "text" is a str: must be a list with'),
        ({"data": {"train": {"text": {"a", "b"}}}}, 'data.train: column "text" is a set: must be a list with'),
        ({"model": {"path": (1, 2)}}, "model.path: must be a path, a hub id, or the (model, parameters)"),
    ],
)
def test_wrong_options_are_refused_in_one_line(sections, wrong):
    with pytest.raises(UserError) as found:
        files_of(jaxft.Trainer(**sections).config.data, "train")
    assert str(found.value).startswith(wrong)


def test_a_config_made_in_python_is_checked():
    with pytest.raises(UserError, match=r"train\.batch_size is 0"):
        jaxft.Trainer(Config(train=TrainConfig(batch_size=0)))
    with pytest.raises(UserError, match=r"no_such\.yaml: cannot be read: No such file"):
        jaxft.Trainer("no_such.yaml")


def test_what_is_not_trained_is_refused(tmp_path, trained):
    run = jaxft.Trainer(Config(output_dir=str(tmp_path / "run"), data=DataConfig(train="a.csv")))
    for use in (run.evaluate, lambda: run.predict([{"text": "a"}]), lambda: run.save(tmp_path / "x")):
        with pytest.raises(UserError, match=r"run: nothing is trained yet: call train\(\) first"):
            use()
    with pytest.raises(UserError, match=r"the run has no test data: give data\.test"):
        trained[0].evaluate("test")
    with pytest.raises(UserError, match=r'^the data: no column "text" \(columns: words\)'):
        trained[0].predict([{"words": "a"}])


def test_the_record_of_a_run_names_the_files(trained):
    stored = json.loads((trained[0].output_dir / "run.json").read_text())
    assert stored["labels"] == tiny.LABELS
    assert trained[0].config.data.train.endswith(".parquet")
    assert Path(trained[0].config.model.path).is_dir()
