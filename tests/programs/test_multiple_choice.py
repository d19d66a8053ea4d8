"""Multiple choice: from rows to sequences, layouts, a whole run, and messages for bad input."""

import json
import random
from pathlib import Path

import datasets
import numpy as np
import pytest

from jaxft import evaluate, losses, predict
from jaxft.config import cli
from jaxft.core.errors import UserError
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.run.setup import make_run
from jaxft.tasks.multiple_choice import MultipleChoice
from jaxft.train import train
from tests.support import read_jsonl, tiny
from tests.support.choices import ENDINGS, SWAG, configure, row
from tests.support.result_files import share_right
from tests.support.resuming import assert_resumes_to_same_model
from tests.support.steps import assert_same, gradients, rearranged


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """train.jsonl (60 rows) and dev.jsonl (24), as SWAG's."""
    folder, rng = tmp_path_factory.mktemp("choices"), random.Random(1)
    for name, count in (("train", 60), ("dev", 24)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row(rng)) + "\n" for _ in range(count)))
    return folder


def encode(rows: list[dict], directory: Path, **data):
    config = cli.parse({"data": {"cache": False, **SWAG, **data}}, [], origin="")
    return MultipleChoice().encode(datasets.Dataset.from_list(rows), load_tokenizer(directory), directory, config, "x.csv")


ROWS = [
    {"sent1": "The river", "sent2": "A song", "ending0": "runs.", "ending1": "over the", "ending2": "stone", "label": 2},
    {"sent1": "old", "sent2": "", "ending0": "sun", "ending1": "lake", "ending2": "and the", "label": 0},
]


def test_each_choice_is_a_sequence_as_in_hugging_faces_script(tiny_model):
    """The context, and the beginning of the ending followed by the choice."""
    examples = encode(ROWS, tiny_model).examples
    assert (len(examples), examples.group, examples.columns["labels"].tolist()) == (2, 3, [2, 0])
    tokenizer = load_tokenizer(tiny_model)
    for i, (start, stop) in enumerate(zip(examples.offsets, examples.offsets[1:], strict=False)):
        source = ROWS[i // 3]
        right = tokenizer(source["sent1"], f"{source['sent2']} {source[f'ending{i % 3}']}", return_token_type_ids=True)
        for name in ("input_ids", "token_type_ids"):
            assert examples.tokens[name][start:stop].tolist() == right[name]


@pytest.mark.parametrize("label", [1, "1", 1.0, "ending1"])
def test_the_right_choice_is_given_by_number_or_name(tiny_model, label):
    assert encode([ROWS[0] | {"label": label}], tiny_model).examples.columns["labels"].tolist() == [1]


def test_choices_may_be_in_one_column_of_lists(tiny_model):
    listed = [{"sent1": r["sent1"], "sent2": r["sent2"], "c": [r[x] for x in ENDINGS], "label": r["label"]} for r in ROWS]
    one, several = encode(listed, tiny_model, choices=["c"]).examples, encode(ROWS, tiny_model).examples
    assert one.tokens["input_ids"].tolist() == several.tokens["input_ids"].tolist()
    assert one.columns["labels"].tolist() == several.columns["labels"].tolist()


@pytest.mark.parametrize(
    ("changes", "choices", "words"),
    [
        ({"ending2": ""}, ENDINGS, "x.csv: row 2 has 2 choices in the columns ending0, ending1, ending2, not 3"),
        ({"ending1": None}, ENDINGS, "row 2 has 2 choices"),
        ({"label": 3}, ENDINGS, 'row 2 has the label "3", which is not one of the 3'),
        ({"label": None}, ENDINGS, "row 2 has no label"),
        ({"c": ["a", "b", "c"]}, ["c"], 'row 2 has 3 choices in column "c", not 2: the number must not vary'),
        ({"c": None}, ["c"], "row 2 has None"),
        ({}, ["ending0"], "row 1 has 'runs.'"),
    ],
)
def test_bad_choices_are_refused(tiny_model, changes, choices, words):
    rows = [r | {"c": ["a", "b"]} for r in ROWS]
    rows[1] |= changes
    with pytest.raises(UserError) as stop:
        encode(rows, tiny_model, choices=choices)
    assert words in str(stop.value)


def test_a_choice_that_is_too_long_names_its_row(tiny_model):
    rows = [ROWS[0], ROWS[1] | {"ending1": "river " * 30}]
    with pytest.raises(UserError, match=r"row 2 is 34 tokens long"):
        encode(rows, tiny_model, truncation=False)


def test_messages_name_the_file_and_the_row_in_it(tiny_model, tmp_path):
    """Also after rows that were left out."""
    paths = []
    for name, rows in (("a", ROWS), ("b", [ROWS[1] | {"sent1": ""}, ROWS[1], ROWS[0] | {"ending1": "river " * 30}])):
        paths.append(str(tmp_path / f"{name}.jsonl"))
        Path(paths[-1]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {**SWAG, "train": paths, "empty_texts": "drop", "truncation": False, "cache": False}
    config = cli.parse({"data": data}, [], origin="")
    rows = MultipleChoice.read(config, "train")
    with pytest.raises(UserError, match=rf"{paths[1]}: row 3 is \d+ tokens long"):
        MultipleChoice().encode(rows, load_tokenizer(tiny_model), tiny_model, config, "both")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ["data.choices is not set"]),
        ({"data.choices": "[text]", "task.labels": "[a, b]"}, ["task.labels is", "no such option"]),
        ({"data.choices": "[text, text]"}, ["data.choices", "different columns"]),
        ({"data.choices": "[text, texts]"}, ['no column "texts"', 'did you mean "text"']),
    ],
)
def test_bad_options_are_refused(train_fails, changes, words):
    train_fails({"task.name": "multiple-choice"} | changes, *words)


def test_gradients_do_not_depend_on_the_layout(folder, tmp_path):
    """The model has large weights: choices with equal logits would have no gradient but rounding errors."""
    model = tiny.write_model(tmp_path / "model", initializer_range=0.2, num_hidden_layers=1)
    sections = {
        "model": {"path": str(model), **tiny.NO_DROPOUT},
        "data": {"validation": None},
        "train": {"batch_size": 9, "label_smoothing": 0.1},
    }
    run = make_run(configure(model, folder, tmp_path / "run", **sections))
    right = gradients(rearranged(run, "pad"))
    assert_same(rearranged(run, micro_batches=2, data=4, fsdp=2), right)
    assert_same(rearranged(run, "bucket"), right)


def test_the_soft_loss_is_over_the_choices_of_each_example():
    """[rows, slots * choices] logits; the second slot of the second row is empty."""
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(0, 2, (2, 2, 6)).astype(np.float32)
    weights = np.array([[1, 1], [1, 0]], np.float32)
    batch = {"weights": weights, "labels": np.zeros((2, 2), np.int32)}
    (pair,) = MultipleChoice().soft_pairs({"logits": student}, {"logits": teacher}, batch)
    total, weight = losses.soft_cross_entropy(pair, 2.0)
    p, q = (np.exp(x.reshape(4, 3)[:3] / 2) for x in (student, teacher))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    assert float(weight) == 3
    assert float(total) == pytest.approx(-(q * np.log(p)).sum(), rel=1e-5)


@pytest.mark.slow
def test_a_run_from_training_to_pytorch(tiny_model, folder, tmp_path):
    sections = {"optim": {"learning_rate": 1e-2}, "train": {"epochs": 15}, "checkpoint": {"every": 30}}
    sections["eval"] = {"every": 30, "batch_size": 8}
    config = configure(tiny_model, folder, tmp_path / "run", **sections)
    results = train(config)
    assert results["eval/accuracy"] > 0.6
    assert share_right(tmp_path / "run") == pytest.approx(results["eval/accuracy"])
    scores = evaluate.main([str(tmp_path / "run"), "--data.validation", str(folder / "dev.jsonl")])
    assert scores == pytest.approx({k.removeprefix("eval/"): v for k, v in results.items()}, rel=1e-5)
    argv = ["--input", str(folder / "dev.jsonl"), "--output", str(tmp_path / "p.jsonl"), "--data.text=sent1"]
    argv += ["--data.text_pair=sent2", "--data.max_length=32", f"--data.choices={json.dumps(ENDINGS)}"]
    predict.main([str(tmp_path / "run/model"), *argv])
    answers = read_jsonl(tmp_path / "p.jsonl")
    rows = read_jsonl(folder / "dev.jsonl")
    right = np.mean([answer["choice"] == r["label"] for answer, r in zip(answers, rows, strict=True)])
    assert right == scores["accuracy"]
    assert all(answer["score"] == max(answer["scores"]) == answer["scores"][answer["choice"]] for answer in answers)

    torch = pytest.importorskip("torch")
    from transformers import AutoModelForMultipleChoice, AutoTokenizer

    from tests.support.zoo_torch import from_pretrained

    model = from_pretrained(AutoModelForMultipleChoice, tmp_path / "run/model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run/model")
    texts = [r["sent1"] for r in rows for _ in ENDINGS], [f"{r['sent2']} {r[x]}" for r in rows for x in ENDINGS]
    inputs = tokenizer(*texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**{name: x.reshape(len(rows), 3, -1) for name, x in inputs.items()}).logits
    np.testing.assert_allclose(logits.softmax(-1).numpy(), [a["scores"] for a in answers], atol=1e-5)
    assert_resumes_to_same_model(config, keep=1)


def test_hugging_faces_sample_of_swag_is_read(tiny_model, shared_data, tmp_path):
    file = str(shared_data / "hf_fixtures/swag/sample.json")
    data = {"train": file, "validation": None, "choices": [f"ending{i}" for i in range(4)]}
    run = make_run(configure(tiny_model, Path(), tmp_path / "run", data=data))
    examples = run.data["train"].examples
    assert (len(examples), examples.group) == (10, 4)
    assert examples.columns["labels"][:3].tolist() == [0, 3, 1]
