"""suspicious_labels and self_train on bad input: one line, and no directory is written."""

import pytest

from jaxft.config import cli
from tests.support import tiny


@pytest.fixture
def config(tiny_model, tiny_data, tmp_path):
    """Writes a config with changed sections, and returns its path."""

    def write(**sections) -> str:
        made = tiny.run_config(tiny_model, tiny_data, tmp_path / "out", **sections)
        (tmp_path / "config.yaml").write_text(cli.dump(made), encoding="utf-8")
        return str(tmp_path / "config.yaml")

    return write


@pytest.mark.parametrize(
    ("command", "argv", "words"),
    [
        ("suspicious_labels", [], ["required", "--output"]),
        ("suspicious_labels", ["--output=o.jsonl", "--folds=1"], ["--folds is 1: must be at least 2"]),
        ("suspicious_labels", ["--output=o.jsonl", "--folds=x"], ["--folds", "invalid int value"]),
        ("suspicious_labels", ["--output=o.csv"], ["--output o.csv", ".jsonl"]),
        ("suspicious_labels", ["--output=-"], ["--work"]),
        ("suspicious_labels", ["--output=o.jsonl", "--rule=x"], ["--rule", "noise_rate"]),
        ("suspicious_labels", ["--output=o.jsonl", "--fold=3"], ['unknown option "--fold"; did you mean "--folds"?']),
        ("suspicious_labels", ["--output=o.jsonl", "--folds=500"], ["--folds is 500, but there are only 1"]),
        ("suspicious_labels", ["--output=o.jsonl", "--data.label=x"], ['no column "x"']),
        ("suspicious_labels", ["--output=o.jsonl", "--data.train=null"], ["data.train is not set"]),
        ("suspicious_labels", ["--output=o.jsonl", "--data.weight=x"], ["data.weight is x", "texts and labels only"]),
        ("self_train", [], ["required", "--unlabelled"]),
        ("self_train", ["--unlabelled=absent.csv"], ["absent.csv: no such file (--unlabelled)"]),
        ("self_train", ["--unlabelled=x", "--rounds=0"], ["--rounds is 0: must be at least 1"]),
        ("self_train", ["--unlabelled=x", "--threshold=1.5"], ["--threshold is 1.5", "from 0 to 1"]),
        ("self_train", ["--unlabelled=x", "--threshold=nan"], ["--threshold is nan", "from 0 to 1"]),
        ("self_train", ["--unlabelled=x", "--most_per_class=0"], ["--most_per_class is 0: must be at least 1"]),
        ("self_train", ["--unlabelled=x", "--student=teacher"], ["--student", "pretrained"]),
        ("self_train", ["--unlabelled=UNLABELLED", "--data.text=row"], ['column "row"', "rename"]),
        ("self_train", ["--unlabelled=UNLABELLED", "--data.label=[row]"], ['column "row"', "rename"]),
        ("self_train", ["--unlabelled=UNLABELLED", "--student=previous", "--plan.preset=lora"], ["--student is previous"]),
        ("self_train", ["--unlabelled=UNLABELLED"], ["unlabelled.csv", 'no column "text"', "sentence"]),
    ],
)
def test_bad_arguments_are_refused(fails, config, tmp_path, monkeypatch, command, argv, words):
    monkeypatch.chdir(tmp_path)
    tiny.write_rows(tmp_path / "unlabelled.csv", 5, columns=("sentence", "label"))
    before = {path.name for path in tmp_path.iterdir()} | {"config.yaml"}
    fails(command, [config(), *(a.replace("UNLABELLED", "unlabelled.csv") for a in argv)], *words)
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "task",
    [{"name": "token-classification"}, {"problem": "regression"}, {"problem": "multi_label"}, {"name": "fill-mask"}],
)
@pytest.mark.parametrize("command", ["suspicious_labels", "self_train"])
def test_other_tasks_are_refused(fails, config, tmp_path, task, command):
    own = {"suspicious_labels": f"--output={tmp_path / 'o.jsonl'}", "self_train": f"--unlabelled={tmp_path / 'config.yaml'}"}
    fails(command, [config(task=task), own[command]], f"jaxft {command}: the task is", *task.values(), "single_label")
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml"}
