"""Bad input: one line on stderr that says what is wrong, where, and what would be right; exit code 2; nothing written."""

import errno
import importlib
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from jaxft import cli
from jaxft.train import train
from tests import tiny

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def fails(capfd):
    """Run an entry point that must fail with one line that holds all the words; returns the line."""

    def run(command: str, argv: list, *words: str) -> str:
        with pytest.raises(SystemExit) as stop:
            cli.run_main(importlib.import_module(f"jaxft.{command}").main, [str(a) for a in argv])
        out, err = capfd.readouterr()
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert stop.value.code == 2
        assert len(lines) == 1, err
        assert err.splitlines()[-1] == lines[0]
        assert "Traceback" not in err + out
        for word in words:
            assert word in lines[0], f"{word!r} is not in: {lines[0]}"
        return lines[0]

    return run


@pytest.fixture
def train_fails(fails, tiny_model, tiny_data, tmp_path):
    """Run jaxft.train on the tiny model and data with some options changed; it must fail and write nothing."""

    def run(changes: dict, *words: str, model: Path = tiny_model) -> str:
        options = {
            "model.path": model,
            "data.train": tiny_data / "train.csv",
            "data.validation": tiny_data / "dev.csv",
            "data.max_length": 32,
            "output_dir": tmp_path / "run",
        } | changes
        line = fails("train", [f"--{k}={v}" for k, v in options.items() if v is not None], *words)
        assert not (tmp_path / "run").exists()
        return line

    return run


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    """A fine-tuned model directory."""
    return tiny.write_model(tmp_path_factory.mktemp("classifier") / "model", labels=tiny.LABELS)


@pytest.fixture(scope="module")
def finished(tiny_model, tiny_data, tmp_path_factory) -> Path:
    """A finished run directory."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    train(tiny.run_config(tiny_model, tiny_data, directory, train={"epochs": 1}))
    return directory


def snapshot(directory: Path) -> dict:
    return {p.relative_to(directory): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


# Data


DATA = {
    "empty file": ("a.csv", b"", ["a.csv", "empty", "data.train"]),
    "header only": ("a.csv", b"text,label\n", ["a.csv", "no rows"]),
    "missing column": ("a.csv", b"texts,label\nx,calm\n", ["a.csv", 'no column "text"', 'did you mean "texts"']),
    "column twice": ("a.csv", b"text,label,text\nx,calm,y\n", ["a.csv", "stands twice"]),
    "no label": ("a.csv", b"text,label\nx,calm\ny,\n", ["a.csv", "row 2", "no label", '"label"']),
    "label null": ("a.jsonl", b'{"text": "x", "label": null}\n', ["a.jsonl", "row 1", "no label"]),
    "label NaN": ("a.json", b'[{"text": "x", "label": 1.5}, {"text": "x", "label": NaN}]', ["a.json"]),
    "one label": ("a.csv", b"text,label\nx,calm\ny,calm\n", ["a.csv", "only the label", '"calm"']),
    "empty text": ("a.csv", b"text,label\nx,calm\n,calm\n", ["a.csv", "row 2", "empty text", "data.empty_texts"]),
    "blank text": ("a.csv", b"text,label\nx,calm\n  \t,calm\n", ["a.csv", "row 2", "empty text"]),
    "null text": ("a.jsonl", b'{"text": "x", "label": "a"}\n{"text": null, "label": "b"}\n', ["row 2", "empty text"]),
    "text is a number": ("a.jsonl", b'{"text": 5, "label": "a"}\n', ["a.jsonl", "row 1", "5", "must be text"]),
    "latin-1 csv": ("a.csv", b"text,label\nx,calm\ncaf\xe9,calm\n", ["a.csv", "line 3", "not UTF-8", "0xe9"]),
    "latin-1 header": ("a.csv", b"t\xe9xt,label\nx,calm\n", ["a.csv", "line 1", "not UTF-8"]),
    "latin-1 tsv": ("a.tsv", b"text\tlabel\ncaf\xe9\tcalm\n", ["a.tsv", "line 2", "not UTF-8"]),
    "latin-1 jsonl": ("a.jsonl", b'{"text": "x", "label": "a"}\n{"text": "caf\xe9", "label": "a"}\n', ["line 2", "UTF-8"]),
    "latin-1 txt": ("a.txt", b"x\ncaf\xe9\n", ["a.txt", "line 2", "not UTF-8"]),
    "cut inside a character": ("a.txt", b"x\ncaf\xc3", ["a.txt", "line 2", "not UTF-8"]),
    "utf-16": ("a.csv", "text,label\nx,calm\n".encode("utf-16"), ["a.csv", "line 1", "not UTF-8"]),
    "txt has no labels": ("a.txt", b"x\ny\n", ["a.txt", 'no column "label"']),
    "too many fields": ("a.csv", b"text,label\nx,calm\na,b,c,calm\n", ["a.csv", "line 3"]),
    "too many fields everywhere": (
        "a.csv",
        b"text,label\na,b,calm\nc,d,merry\n",
        ["a.csv", "row 1 has 3 fields", "2 columns"],
    ),
    "too few fields": ("a.csv", b"text,label\nx,calm\ny\n", ["a.csv", "row 2", "no label"]),
    "long later": ("a.tsv", b"text\tlabel\nx\tcalm\na\tb\tcalm\n", ["a.tsv", "line 3"]),
    "open quote": ("a.csv", b'text,label\n"x,calm\ny,calm\n', ["a.csv", "cannot be read"]),
    "torn json": ("a.json", b'[{"text": "x", "label": "a"}, {"te', ["a.json", "cannot be read"]),
    "torn jsonl": ("a.jsonl", b'{"text": "x", "label": "a"}\n{"text": "y", \n', ["a.jsonl", "cannot be read"]),
    "not parquet": ("a.parquet", b"PAR1 nothing of the sort", ["a.parquet", "cannot be read"]),
    "unknown kind": ("a.xlsx", b"PK", ["a.xlsx", "unknown kind of file", ".csv"]),
    "no kind": ("a", b"text,label\n", ["unknown kind of file"]),
}


@pytest.mark.parametrize("case", DATA)
def test_bad_training_file(train_fails, tmp_path, case):
    name, content, words = DATA[case]
    (tmp_path / name).write_bytes(content)
    train_fails({"data.train": tmp_path / name}, *words)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_missing_file(train_fails, tmp_path, split):
    train_fails({f"data.{split}": tmp_path / "absent.csv"}, "absent.csv", "no such file", f"data.{split}")


def test_directory_as_file(train_fails, tmp_path):
    train_fails({"data.train": tmp_path}, "is a directory", "data.train")


def test_missing_pair_column(train_fails):
    train_fails({"data.text_pair": "second"}, "train.csv", 'no column "second"')


@pytest.mark.parametrize(
    ("training", "validation", "words"),
    [
        (["angry", "calm"], ["calm", "mery"], ["dev.csv", "row 2", '"mery"', "angry, calm"]),
        (["0", "1"], ["0", "calm"], ["dev.csv", "row 2", '"calm"', "known labels are numbers"]),
        (["0", "1"], ["0", "2"], ["dev.csv", "row 2", '"2"', "0, 1"]),
    ],
)
def test_label_that_training_never_had(train_fails, tmp_path, training, validation, words):
    for name, labels in (("train", training), ("dev", validation)):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(f"river,{x}\n" for x in labels))
    train_fails({"data.train": tmp_path / "train.csv", "data.validation": tmp_path / "dev.csv"}, *words)


def test_every_text_empty(train_fails, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n ,calm\n")
    train_fails({"data.train": tmp_path / "a.csv", "data.empty_texts": "drop"}, "a.csv", "every text is empty")


def test_text_too_long_without_truncation(train_fails, tmp_path):
    (tmp_path / "a.csv").write_text(f"text,label\nriver,calm\n{'river ' * 40},merry\n")
    changes = {"data.train": tmp_path / "a.csv", "data.truncation": "false"}
    train_fails(changes, "a.csv", "row 2 is 42 tokens", "data.max_length 32", "data.truncation")


def test_validation_share_that_leaves_nothing(train_fails):
    train_fails({"data.validation": None, "data.validation_share": 0.001}, "data.validation_share", "empty")


def test_missing_split_of_a_saved_data_set(train_fails, tmp_path):
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["x", "y"], "label": ["a", "b"]})
    datasets.DatasetDict(train=rows).save_to_disk(tmp_path / "saved")
    changes = {"data.dataset": tmp_path / "saved", "data.train": "train", "data.validation": "dev"}
    train_fails(changes, "saved", "no split dev", "train")


def test_torn_saved_data_set(train_fails, tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    train_fails({"data.dataset": tmp_path / "saved", "data.train": "train"}, "saved", "cannot be read")


# Model


def test_max_length_beyond_the_positions(train_fails):
    train_fails({"data.max_length": 64}, "data.max_length is 64", "48 positions")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no/such/dir", ["no/such/dir: no such directory"]),
        ("bert-base-nowhere", ["bert-base-nowhere", "hub"]),
        ("package:no_such_package/model", ["no_such_package", "not installed"]),
        ("package:jaxft/nothing", ["no folder nothing"]),
        (None, ["model.path is not set"]),
    ],
)
def test_model_that_is_not_there(train_fails, path, words):
    train_fails({"model.path": path}, *words)


def test_model_that_is_a_file(train_fails, tiny_model):
    train_fails({"model.path": tiny_model / "config.json"}, "is a file", "directory")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[:8] = b"\xff" * 8
    path.write_bytes(data)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [half, flip, lambda p: p.write_bytes(b"")], ids=["half", "flip", "empty"])
@pytest.mark.parametrize("name", ["model.safetensors", "flax_model.msgpack", "config.json"])
def test_damaged_model_file(train_fails, tmp_path, name, damage, tiny_model):
    import jaxft

    model, params = jaxft.load(str(tiny_model))
    jaxft.models.build.save(model, params, tmp_path / "m", flax=True)
    if name == "flax_model.msgpack":
        (tmp_path / "m" / "model.safetensors").unlink()
    damage(tmp_path / "m" / name)
    train_fails({}, name, "not ", model=tmp_path / "m")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "brt"}, ['"brt"', 'did you mean "bert"']),
        ({"model_type": None}, ["model_type"]),
        ({"model_type": ["bert"]}, ["model_type"]),
        ({"hidden_size": 48}, ["do not fit", "config.json asks for"]),
        ({"hidden_size": 25}, ["hidden_size 25", "num_attention_heads 3"]),
        ({"num_attention_heads": 0}, ["num_attention_heads is 0"]),
        ({"num_hidden_layers": 3}, ["do not fit", "lacks", "layer.2."]),
        ({"num_hidden_layers": 1}, ["do not fit", "has no", "layer.1."]),
        ({"vocab_size": "many"}, ["vocab_size is 'many'", "whole number"]),
        ({"layer_norm_eps": "small"}, ["layer_norm_eps is 'small'", "number"]),
        ({"hidden_act": "gelo"}, ['"gelo"', "did you mean"]),
        ({"position_embedding_type": "relative_key"}, ["position_embedding_type", "absolute"]),
        ({"id2label": {"a": "b"}}, ["id2label", "numbers"]),
    ],
)
def test_config_json_that_does_not_fit(train_fails, tiny_model, tmp_path, changes, words):
    directory = shutil.copytree(tiny_model, tmp_path / "m")
    config = json.loads((directory / "config.json").read_text()) | changes
    (directory / "config.json").write_text(json.dumps(config))
    train_fails({}, *words, model=directory)


@pytest.mark.parametrize(
    ("missing", "words"),
    [("config.json", ["no config.json"]), ("model.safetensors", ["no weights"]), ("vocab.txt", ["no usable tokenizer"])],
)
def test_model_directory_that_lacks_a_file(train_fails, tiny_model, tmp_path, missing, words):
    directory = shutil.copytree(tiny_model, tmp_path / "m")
    (directory / missing).unlink()
    train_fails({}, str(directory), *words, model=directory)


def test_pickled_weights_are_never_opened(train_fails, tiny_model, tmp_path):
    directory = shutil.copytree(tiny_model, tmp_path / "m")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    train_fails({}, "pytorch_model.bin", "never opens", model=directory)


def test_tokenizer_larger_than_the_vocabulary(train_fails, tiny_model, tmp_path):
    directory = shutil.copytree(tiny_model, tmp_path / "m")
    with open(directory / "vocab.txt", "a") as file:
        file.writelines(f"word{i}\n" for i in range(50))
    train_fails({}, "tokenizer has", "vocabulary", "41", model=directory)


# Options


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--data.max_lenght", "8"], ['"--data.max_lenght"', 'did you mean "data.max_length"']),
        (["--learning_rate", "8"], ["unknown option", "optim.learning_rate"]),
        (["--train.batch_size", "1e3"], ["train.batch_size is 1000.0", "whole number"]),
        (["--train.batch_size", "many"], ["train.batch_size is many", "whole number"]),
        (["--optim.learning_rate", "high"], ["optim.learning_rate is high", "number"]),
        (["--data.truncation", "maybe"], ["data.truncation is maybe", "true or false"]),
        (["--data.layout", "stack"], ["data.layout is stack", "pack, bucket, pad"]),
        (["--task.labels", "a"], ["task.labels is a", "list"]),
        (["--task.labels", "[a, a]"], ["task.labels", "different"]),
        (["--seed"], ["--seed", "expected one argument"]),
        (["--plan.rules", '[{"patern": "x"}]'], ["plan.rules", '"patern"', 'did you mean "pattern"']),
        (["absent.yaml"], ["absent.yaml", "No such file"]),
        (["a.yaml", "b.yaml"], ["one CONFIG.yaml", "a.yaml b.yaml"]),
        (["--seed", "1", "a.yaml"], ["a.yaml"]),
        ([], ["model.path is not set"]),
    ],
)
def test_bad_command_line(fails, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    fails("train", argv, *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"- a\n- b\n", ["mapping"]),
        (b"just text", ["mapping"]),
        (b"seed: [1\n", ["not valid YAML", "line 2"]),
        (b"seed: 1\nseed: 2\n", ['"seed" stands twice', "line 1"]),
        (b"data: {train: a, train: b}\n", ['"train" stands twice']),
        (b"output_dir: caf\xe9\n", ["UTF-8"]),
        (b"traim: {epochs: 1}\n", ['"traim"', 'did you mean "train"']),
        (b"train: {epoch: 1}\n", ['"train.epoch"', 'did you mean "train.epochs"']),
        (b"train: 3\n", ["train is a section", "3"]),
        (b"data: {1: 2}\n", ['"data.1"']),
        (b"data: {label: 1}\n", ["data.label is 1", "text"]),
        (b"task: {labels: [yes, no]}\n", ["task.labels is [True, False]", "in quotes"]),
        (b"train: {batch_size: true}\n", ["train.batch_size is True", "whole number"]),
        (b"plan: {rules: [1]}\n", ["plan.rules is 1", "pattern, trainable"]),
        (b"eval: {every: 0.5}\n", ["eval.every is 0.5"]),
        (b"seed: !!python/object:os.system 1\n", ["not valid YAML"]),
    ],
)
def test_bad_yaml(fails, tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    path.write_bytes(text)
    fails("train", [path], "bad.yaml", *words)


NUMBERS = {
    "train.batch_size": [0, -1],
    "train.micro_batches": [0, 33],
    "train.epochs": [0, -1, ".nan", ".inf"],
    "train.max_steps": [0, -5],
    "train.patience": [0],
    "train.min_delta": [-1, ".nan"],
    "train.label_smoothing": [1, -0.1, ".nan"],
    "optim.learning_rate": [0, -1, ".nan", ".inf"],
    "optim.weight_decay": [-1, ".nan", ".inf"],
    "optim.beta1": [1, -1, ".nan"],
    "optim.beta2": [1, ".inf"],
    "optim.epsilon": [0, ".nan"],
    "optim.warmup": [-1, ".nan", ".inf"],
    "optim.clip": [0, -1, ".nan", ".inf"],
    "model.dropout": [1, -0.1, ".nan"],
    "model.attention_dropout": [1.5],
    "model.classifier_dropout": [".inf"],
    "model.num_layers": [0, -1],
    "data.max_length": [2, 0, -1],
    "data.shapes": [0],
    "data.prefetch": [0],
    "data.max_train_examples": [0, -1],
    "data.validation_share": [1, -0.5, ".nan"],
    "plan.n": [-1],
    "plan.rules": ["[{pattern: x, learning_rate: .inf}]", "[{pattern: x, learning_rate: -1}]"],
    "eval.batch_size": [0],
    "eval.every": [0, -1, '"1 week"', '"0 epochs"', '"0.5 steps"', '"nan epochs"', '""'],
    "checkpoint.every": [0, '"often"'],
    "checkpoint.keep": [0],
    "distill.temperature": [0, ".nan", ".inf"],
    "distill.alpha": [-0.1, 1.1, ".nan"],
    "mesh.data": [0, -2],
    "mesh.fsdp": [0, -1],
    "log.every": [0],
    "runtime.unroll": [0],
    "seed": [-1, 2**32],
}


@pytest.mark.parametrize(("name", "value"), [(name, v) for name, values in NUMBERS.items() for v in values])
def test_number_out_of_range(fails, tmp_path, name, value):
    section, _, field = name.rpartition(".")
    path = tmp_path / "c.yaml"
    path.write_text(f"{section}: {{{field}: {value}}}\n" if section else f"{field}: {value}\n")
    fails("train", [path], name, str(value).strip('"').removeprefix(".") if name != "plan.rules" else "learning_rate")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.validation_share": 0.1}, ["data.validation", "data.validation_share", "exclude"]),
        ({"plan.preset": "none"}, ["plan.preset is none", "plan.rules"]),
        ({"eval.metric": "acuracy"}, ["eval.metric is acuracy", "accuracy"]),
        ({"eval.metric": "f1"}, ["eval.metric is f1", "two labels", "has 3", "macro_f1"]),
        ({"data.train": None}, ["data.train is not set"]),
        ({"model.num_layers": 3}, ["model.num_layers is 3", "2 layers"]),
        ({"mesh.fsdp": 3}, ["mesh.fsdp 3", "8 devices"]),
        ({"mesh.fsdp": 16}, ["mesh.fsdp 16", "8 devices"]),
        ({"mesh.data": 9}, ["mesh.data 9", "8 devices"]),
        ({"plan.preset": "last_n", "plan.n": 3}, ["plan.n is 3", "2 layers"]),
    ],
)
def test_options_that_do_not_fit(train_fails, changes, words):
    train_fails(changes, *words)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"pattern": "classifer"}, ['"classifer" matches no parameter', 'did you mean "classifier"']),
        ({"pattern": r"layer\.1\.attention\.self\.qury\.kernel"}, ["layer.1.attention.self.query.kernel"]),
        ({"pattern": "zzz"}, ['"zzz" matches no parameter', "heads.main"]),
        ({"pattern": "layer.("}, ['"layer.("', "not a regular expression"]),
        ({"pattern": "", "trainable": False}, ["trains nothing"]),
    ],
)
def test_bad_plan_rule(train_fails, rule, words):
    train_fails({"plan.rules": json.dumps([rule])}, *words)


def test_rule_that_earlier_rules_hide(train_fails):
    rules = [{"pattern": "encoder"}, {"pattern": "pooler"}]
    train_fails({"plan.rules": json.dumps(rules)}, '"pooler"', "earlier rules")


def test_rules_that_leave_parameters_out(train_fails):
    changes = {"plan.preset": "none", "plan.rules": json.dumps([{"pattern": "heads"}])}
    train_fails(changes, "covered by no rule", "encoder.embeddings")


# Distillation


def test_teacher_with_other_labels(train_fails, tmp_path):
    teacher = tiny.write_model(tmp_path / "teacher", labels=["no", "yes"])
    train_fails({"distill.teacher": teacher}, "distill.teacher", "no, yes (2)", "angry, calm, merry (3)")


def test_teacher_without_a_classifier(train_fails, tiny_model):
    train_fails({"distill.teacher": tiny_model}, "distill.teacher", "fine-tuned text-classification")


def test_teacher_with_another_vocabulary(train_fails, classifier, tmp_path):
    teacher = shutil.copytree(classifier, tmp_path / "teacher")
    with open(teacher / "vocab.txt", "a") as file:
        file.write("moor\n")
    train_fails({"distill.teacher": teacher}, "distill.teacher", "another vocabulary")


def test_teacher_with_fewer_positions(train_fails, tmp_path):
    teacher = tiny.write_model(tmp_path / "teacher", labels=tiny.LABELS, max_position_embeddings=16)
    train_fails({"distill.teacher": teacher}, "data.max_length is 32", "distill.teacher", "16 positions")


def test_teacher_that_is_not_there(train_fails, tmp_path):
    train_fails({"distill.teacher": tmp_path / "nobody"}, "nobody", "no such directory")


# The output directory


def test_output_dir_of_another_run(train_fails, fails, finished, tiny_model, tiny_data):
    before = snapshot(finished)
    changes = {"output_dir": finished, "optim.learning_rate": 1e-4}
    train_fails(changes, "another run", "optim.learning_rate (0.003 there, 0.0001 here)")
    assert snapshot(finished) == before


def test_output_dir_with_foreign_files(train_fails, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    train_fails({"output_dir": tmp_path / "mine"}, "mine", "no config.yaml")
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


@pytest.mark.parametrize("inside", ["", "run"])
def test_output_dir_that_is_a_file(train_fails, tmp_path, inside):
    (tmp_path / "file").write_text("x")
    train_fails({"output_dir": tmp_path / "file" / inside}, "output_dir", "is a file")
    assert (tmp_path / "file").read_text() == "x"


def test_output_dir_that_cannot_be_made(train_fails):
    train_fails({"output_dir": "/proc/nowhere/run"}, "output_dir /proc/nowhere/run", "cannot be written")


def test_read_only_output_dir(train_fails, monkeypatch):
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    train_fails({}, "output_dir", "not writable")


def test_torn_config_in_the_output_dir(train_fails, tmp_path):
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.yaml").write_text("data: {train")
    train_fails({"output_dir": tmp_path / "torn"}, "torn/config.yaml", "not valid YAML")


# While a run goes on


@pytest.fixture
def short_run(tiny_model, tiny_data, tmp_path):
    """argv of a short run; sections change it."""

    def argv(**sections) -> list:
        config = tiny.run_config(tiny_model, tiny_data, tmp_path / "run", train={"epochs": 1}, **sections)
        (tmp_path / "short.yaml").write_text(cli.dump(config))
        return [tmp_path / "short.yaml"]

    return argv


def test_loss_that_is_no_number(fails, short_run, tmp_path):
    argv = short_run(optim={"learning_rate": 1e30, "clip": None, "warmup": 0}, checkpoint={"every": 1})
    line = fails("train", argv, "at step", "learning rate", "e+", "the checkpoint of step", "lower optim.learning_rate")
    step = int(line.split("at step ")[1].split()[0])
    assert (tmp_path / "run" / "checkpoints" / str(step - 1)).is_dir()
    assert not (tmp_path / "run" / "model").exists()


def test_checkpoint_that_cannot_be_written(fails, short_run, monkeypatch, tmp_path):
    import orbax.checkpoint

    def full(*args, **kwargs):
        raise FULL

    monkeypatch.setattr(orbax.checkpoint.CheckpointManager, "save", full)
    fails("train", short_run(), str(tmp_path / "run"), "checkpoint", "No space left on device")
    assert not (tmp_path / "run" / "model").exists()


def test_disk_full_while_the_model_is_written(fails, short_run, monkeypatch, tmp_path):
    import safetensors.numpy

    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    fails("train", short_run(), "model", "cannot be written", "No space left on device")
    assert not (tmp_path / "run" / "model").exists()
    assert not list((tmp_path / "run").glob(".model*"))


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(Exception, match=r"absent\.yaml") as error:
        cli.run_main(importlib.import_module("jaxft.train").main, [str(tmp_path / "absent.yaml"), "--debug"])
    assert type(error.value).__name__ == "UserError"


# evaluate, predict, export


COMMANDS = {
    "evaluate": lambda model, data, out: [model, "--data.validation", data / "dev.csv", "--data.max_length", 32],
    "predict": lambda model, data, out: [model, "--input", data / "dev.csv", "--output", out, "--max_length", 32],
    "export": lambda model, data, out: [model, "--output", out],
}


@pytest.mark.parametrize(
    ("command", "kind"),
    # predict gives embeddings of a base model
    [(c, k) for k in ("absent", "empty", "base", "begun") for c in COMMANDS if (c, k) != ("predict", "base")],
)
def test_directory_that_is_no_finished_run(fails, tiny_model, tiny_data, tmp_path, finished, command, kind):
    model = tiny_model if kind == "base" else tmp_path / kind
    if kind in ("empty", "begun"):
        model.mkdir()
    if kind == "begun":
        shutil.copy(finished / "config.yaml", model)
    why = {"absent": "no such directory", "empty": "no config.json", "base": "fine-tune", "begun": "no model/ yet"}[kind]
    if command == "export":
        why = "no checkpoint yet" if kind == "begun" else "not a run directory"
    fails(command, COMMANDS[command](model, tiny_data, tmp_path / "out"), str(model), why)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "argv", "words"),
    [
        ("evaluate", [], ["run or model directory"]),
        ("evaluate", ["--data.validation", "x.csv"], ["run or model directory first"]),
        ("evaluate", ["MODEL"], ["--data.validation"]),
        ("evaluate", ["MODEL", "--data.validaton", "x.csv"], ['did you mean "data.validation"']),
        ("evaluate", ["MODEL", "--data.validation", "absent.csv", "--data.max_length=32"], ["absent.csv", "no such file"]),
        ("predict", [], ["required", "--input"]),
        ("predict", ["MODEL", "--inptu", "x.csv"], ['"--inptu"', 'did you mean "--input"']),
        ("predict", ["MODEL", "--input", "absent.csv", "--output", "o"], ["absent.csv", "no such file"]),
        ("predict", ["MODEL", "--input", "x", "--output", "o", "--batch_size", "0"], ["--batch_size is 0", "at least 1"]),
        ("predict", ["MODEL", "--input", "x", "--output", "o", "--batch_size", "x"], ["--batch_size", "int", "'x'"]),
        ("predict", ["MODEL", "--input", "x", "--output", "."], ["--output", "is a directory"]),
        ("export", [], ["required", "RUN_DIR"]),
        ("export", ["RUN", "--step", "x"], ["--step is x", "best, last"]),
        ("export", ["RUN", "--step", "99"], ["no checkpoint of step 99", "there are 7"]),
    ],
)
def test_bad_arguments_of_the_other_commands(fails, classifier, finished, monkeypatch, tmp_path, command, argv, words):
    monkeypatch.chdir(tmp_path)
    fails(command, [{"MODEL": classifier, "RUN": finished}.get(a, a) for a in argv], *words)
    assert not list(tmp_path.iterdir())


def test_evaluate_on_an_unknown_label(fails, classifier, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nriver,calm\nriver,sad\n")
    fails("evaluate", [classifier, "--data.validation", tmp_path / "a.csv", "--data.max_length=32"], "row 2", '"sad"')


def test_predict_without_the_text_column(fails, classifier, tmp_path):
    (tmp_path / "a.csv").write_text("sentence\nriver\n")
    argv = [classifier, "--input", tmp_path / "a.csv", "--output", tmp_path / "o", "--max_length", "32"]
    fails("predict", argv, "a.csv", 'no column "text"', "sentence")
    assert not (tmp_path / "o").exists()


def test_predict_beyond_the_positions(fails, classifier, tiny_data, tmp_path):
    fails("predict", [classifier, "--input", tiny_data / "dev.csv", "--output", tmp_path / "o"], "128", "48 positions")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_predict_to_a_full_disk(fails, classifier, tiny_data):
    argv = [classifier, "--input", tiny_data / "dev.csv", "--output", "/dev/full", "--max_length", 32]
    fails("predict", argv, "/dev/full", "No space left on device")
    assert Path("/dev/full").is_char_device()


def test_predict_keeps_the_old_file_when_the_disk_fills(fails, classifier, tiny_data, tmp_path, monkeypatch):
    def full(*args):
        raise FULL

    (tmp_path / "o.jsonl").write_text("old")
    monkeypatch.setattr(os, "replace", full)
    argv = [classifier, "--input", tiny_data / "dev.csv", "--output", tmp_path / "o.jsonl", "--max_length", 32]
    fails("predict", argv, "cannot be written", "No space left on device")
    assert os.listdir(tmp_path) == ["o.jsonl"]
    assert (tmp_path / "o.jsonl").read_text() == "old"


def test_export_to_a_place_that_cannot_be_made(fails, finished):
    fails("export", [finished, "--output", "/proc/nowhere/model"], "/proc/nowhere", "cannot be written")


def test_export_of_a_damaged_checkpoint(fails, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    for path in (run / "checkpoints").rglob("*"):
        if path.is_file() and path.stat().st_size > 2000:
            half(path)
    fails("export", [run, "--output", tmp_path / "out"], str(run), "checkpoint")
    assert not (tmp_path / "out").exists()


def test_plan_reports_like_train(fails, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"model": {"path": "no/such/dir"}, "data": {"train": "x.csv"}}))
    fails("plan", [path], "no/such/dir: no such directory")
