"""Labels: their order, two spellings of one number, rows of 0 and 1, heads that are reused, and rows that are dropped."""

import datasets
import numpy as np
import pytest

import jaxft
from jaxft.config import Config, DataConfig, TaskConfig
from jaxft.core.errors import UserError
from jaxft.data.reading import label_spelling
from jaxft.models.load_save import load
from jaxft.tasks import PROBLEMS, label_lists, labels
from jaxft.tasks.metrics.classification import MAX_MISTAKES, MAX_TABLE_LABELS, SparseConfusion, classification_scores
from jaxft.tasks.multi_label import MultiLabel
from jaxft.tasks.multiple_choice import _right_choices
from jaxft.tasks.regression import Regression
from jaxft.tasks.text_classification import TextClassification
from jaxft.tasks.token_classification import TokenClassification
from tests.support import tiny
from tests.support.row_names import rows_of

PLAIN = tiny.CONFIG
CLASSIFIER = PLAIN | {"architectures": ["BertForSequenceClassification"]}


def named(*names: str) -> dict:
    return CLASSIFIER | {"id2label": {str(i): name for i, name in enumerate(names)}}


def with_label(column, feature=None, **others) -> datasets.Dataset:
    features = datasets.Features(label=feature) if feature is not None else None
    return datasets.Dataset.from_dict({"label": column, **others}, features=features)


def learnt(column, hf_config=PLAIN, feature=None, kind=TextClassification, **task) -> tuple[str, ...]:
    data = DataConfig(train="t.csv", **task.pop("data", {}))
    config = Config(task=TaskConfig(**task), data=data)
    return kind.learn(config, hf_config, with_label(column, feature), "t.csv").labels


# Order and names


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["10", "9", "2", "10"], ["2", "9", "10"]),
        (["-1", "1", "0"], ["-1", "0", "1"]),
        (["10.0", "9.0", "1.5"], ["1.5", "9.0", "10.0"]),
        (["b", "a", "10"], ["10", "a", "b"]),
        (["²", "1"], ["1", "²"]),
        (["LABEL_10", "LABEL_9", "LABEL_0"], ["LABEL_0", "LABEL_9", "LABEL_10"]),
        (["9" * 5000, "1", "1e999999999"], ["1", "9" * 5000, "1e999999999"]),
    ],
)
def test_undeclared_labels_are_sorted(values, names):
    assert label_spelling.in_order(values, "x") == names


def test_declared_labels_keep_names_and_order():
    names = ["not_equivalent", "equivalent", "unused"]
    assert learnt([1, 0, 1], feature=datasets.ClassLabel(names=names)) == tuple(names)
    assert learnt(["1", "0"], named("angry", "calm")) == ("angry", "calm")  # numbers of a head's labels
    numbers = datasets.ClassLabel(names=["0", "1"])
    assert learnt([1, 0], named("angry", "calm"), numbers) == ("angry", "calm")
    many = datasets.List(datasets.ClassLabel(names=["z", "y", "x"]))
    assert learnt([[0], [1, 2], []], feature=many, kind=MultiLabel, problem="multi_label") == ("z", "y", "x")


@pytest.mark.parametrize("kind", ["a file", "a list of files", "a saved data set"])
def test_declared_tags_keep_their_order(tmp_path, kind):
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    features = datasets.Features(
        text=datasets.List(datasets.Value("string")), label=datasets.List(datasets.ClassLabel(names=names))
    )
    rows = datasets.Dataset.from_dict({"text": [["sun", "river"]], "label": [[3, 0]]}, features=features)
    path = tmp_path / "t.parquet"
    rows.to_parquet(path)
    if kind == "a saved data set":
        path = tmp_path / "saved"
        rows.save_to_disk(path)
    given = [str(path)] * 2 if kind == "a list of files" else str(path)
    config = Config(task=TaskConfig(name="token-classification"), data=DataConfig(train=given))
    task = TokenClassification.learn(config, PLAIN, TokenClassification.read(config, "train"), "t.parquet")
    assert task.labels == tuple(names)


def test_a_class_label_without_a_name_is_refused():
    feature = datasets.ClassLabel(names=["5", "7", "1"])
    with pytest.raises(UserError, match="row 2 has no label"):
        labels.label_values(with_label([0, -1], feature), "label", "x")
    with pytest.raises(UserError, match="row 1 has the label 7, but only 3 labels have names"):
        labels.label_text(7, ["5", "7", "1"], rows_of("x"), 0)


def test_names_of_a_class_label_do_not_change_the_right_choice():
    for names in (["1", "2"], ["A", "B"]):
        rows = with_label([0, 1], datasets.ClassLabel(names=names))
        assert _right_choices(rows, "label", ["0", "1"], "x").tolist() == [0, 1]
    assert _right_choices(with_label(["yes", "0"]), "label", ["no", "yes"], "x").tolist() == [1, 0]


# Two spellings of one number


@pytest.mark.parametrize(
    "values", [["1", "1.0", "2"], ["007", "7"], ["1.1", "1.10"], ["True", "true", "false"], ["1e1", "10", "x"], ["0", "-0"]]
)
def test_two_spellings_of_one_number_are_refused(values):
    with pytest.raises(UserError, match=r"x: has the labels .* one number written in two ways"):
        label_spelling.in_order(values, "x")
    find = label_spelling.finder(values)  # if task.labels names both, each is found as it is written
    assert [find(value) for value in values] == list(range(len(values)))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["1.0", "2.0", "3.0"], {"1": 0, "2": 1, "2.00": 1, "0": None, "02": None}),
        (["1", "2", "3"], {"1.0": 0, "3.": 2, "true": 0, "false": None, "1.5": None}),
        (["false", "true"], {"0": 0, "1": 1, "True": 1, "1.0": 1, "2": None}),
        (["0", "1", "other"], {"1.0": 1, "true": None, "2": None}),
        (["neg", "pos"], {"0": 0, "1.0": 1, "true": None, "01": None, "2": None}),
        (["false", "half-true", "true"], {"1": 1, "True": None}),
        (["007", "8"], {"7": None, "8.0": 1, "1": None}),
        (["1.1", "1.2"], {"1.10": None, "1": None}),
    ],
)
def test_a_number_never_finds_another_label(names, found):
    find = label_spelling.finder(names)
    assert {text: find(text) for text in found} == found


def test_an_unknown_label_that_is_a_known_number_says_so():
    with pytest.raises(UserError, match=r'row 2 has the label "7".* it is the number "007", written in another way'):
        labels.label_ids(["007", "7"], ["007", "8"], rows_of("x"))
    assert labels.label_ids(["1", "9", "1.0"], ["1", "2"], rows_of("x"), unknown=-1).tolist() == [0, -1, 0]


# Rows of 0 and 1


@pytest.mark.parametrize("rows", [[[0, 1, 0], [1, 1, 0]], [[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]], ["[0, 1, 0]", "[1 1 0]"]])
def test_rows_of_0_and_1_are_lists_of_labels(rows):
    def read(names=None):
        return label_lists.label_lists(with_label(rows), DataConfig(), "x", names)[0]

    assert read() == [["LABEL_1"], ["LABEL_0", "LABEL_1"]]
    assert read(["a", "b", "c"]) == [["b"], ["a", "b"]]
    assert learnt(rows, kind=MultiLabel, problem="multi_label") == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert learnt(rows, named("a", "b", "c"), kind=MultiLabel, problem="multi_label") == ("a", "b", "c")
    with pytest.raises(UserError, match=r"rows of 0 and 1 with 3 entries, not 2 labels \(a, b\)"):
        read(["a", "b"])
    with pytest.raises(UserError, match="multi_label"):
        learnt(rows)


@pytest.mark.parametrize("texts", [["0 1", "1 0"], ["0,1,1", "1,0,0"], ["[0. 1.]", "[1. 1.]"], ["0|1", "0|0"]])
def test_rows_of_0_and_1_as_text_are_refused_as_single_labels(texts):
    with pytest.raises(UserError, match="has rows of 0 and 1"):
        learnt(texts)


@pytest.mark.parametrize(
    ("rows", "names", "found"),
    [
        ([[0], [0, 1], []], None, [["0"], ["0", "1"], []]),  # ids
        ([[0], [1]], None, [["0"], ["1"]]),
        ([[0, 1], [1, 0]], ["0", "1"], [["0", "1"], ["1", "0"]]),
        ([[0, 1], [1, 0]], ["a", "b"], [["b"], ["a"]]),
        ([[0, 1], [1, 0]], ["a", "b", "c"], [["0", "1"], ["1", "0"]]),
        (["['a', 'b']", "[]", '["c"]'], None, [["a", "b"], [], ["c"]]),
    ],
)
def test_lists_of_labels_stay_lists(rows, names, found):
    assert label_lists.label_lists(with_label(rows), DataConfig(), "x", names)[0] == found


@pytest.mark.parametrize("row", [["1", "0", "1"], ["1.0", "0.0", "1.0", "1.0"]])
def test_a_row_of_0_and_1_among_lists_of_labels_is_refused(row):
    with pytest.raises(UserError, match=r"row 2 has .* 0 and 1 for each label, but other rows have lists of labels"):
        label_lists.label_lists(with_label([["a", "b"], row]), DataConfig(), "x", ["a", "b", "c"])


def test_rows_of_0_and_1_of_several_lengths_are_refused():
    with pytest.raises(UserError, match="rows of 0 and 1 with 2, 3 entries"):
        label_lists.label_lists(with_label([[0, 0, 1], [1, 0]]), DataConfig(), "x")
    nested = "[" * 100_000 + "]" * 100_000
    with pytest.raises(UserError, match="must be a list of labels"):
        label_lists.label_lists(with_label([nested]), DataConfig(), "x")


# Heads


def test_a_head_without_label_names_is_reused_for_its_numbers():
    generic = named("LABEL_0", "LABEL_1")
    assert TextClassification(("0", "1")).accepts_head(generic)
    assert TextClassification(("0.0", "1.0")).accepts_head(generic)
    assert not TextClassification(("neg", "pos")).accepts_head(generic)
    assert not TextClassification(("0", "1", "2")).accepts_head(generic)
    assert not TextClassification(("0", "1")).accepts_head(PLAIN)  # an encoder alone
    one, two = named("LABEL_0"), named("LABEL_0", "LABEL_1")
    assert Regression(("score",)).accepts_head(one)
    assert not Regression(("a", "b")).accepts_head(one)
    assert not Regression(("a", "b")).accepts_head(two)  # a classifier
    assert Regression(("a", "b")).accepts_head(two | {"problem_type": "regression"})


@pytest.mark.parametrize(
    ("given", "read"), [(["length", "songs"], [1, 2]), (["songs", "length"], [1, 2]), (["b", "a"], [4, 3])]
)
def test_columns_of_targets_are_in_the_order_of_the_model(given, read):
    rows = datasets.Dataset.from_dict({"length": [1.0], "songs": [2.0], "a": [3.0], "b": [4.0]})
    config = Config(data=DataConfig(label=given))
    assert Regression(("length", "songs")).encode_labels(rows, config, "train.csv").tolist() == [read]


def test_labels_of_another_kind_of_head_are_ignored():
    tagger = named("O", "B-x") | {"architectures": ["BertForTokenClassification"]}
    assert learnt(["0", "1"], tagger) == ("0", "1")


def test_labels_in_another_order_reorder_the_outputs(tmp_path):
    directory = tiny.write_model(tmp_path / "m", labels=["a", "b", "c"])
    inputs = {"input_ids": np.array([[2, 6, 7, 3]])}
    right = jaxft.forward(*load(str(directory)), inputs)["logits"]
    model, params = load(str(directory), labels=["c", "a", "b"])
    assert (model.labels, model.report.new) == (["c", "a", "b"], ())
    np.testing.assert_array_equal(jaxft.forward(model, params, inputs)["logits"], right[:, [2, 0, 1]])
    renamed, params = load(str(directory), labels=["x", "y", "z"], renamed=True)
    assert (renamed.labels, renamed.report.new) == (["x", "y", "z"], ())
    np.testing.assert_array_equal(jaxft.forward(renamed, params, inputs)["logits"], right)
    assert load(str(directory), labels=["x", "y", "z"])[0].report.new


# Rows that are dropped


def test_unknown_labels_are_dropped_and_counted(tmp_path):
    (tmp_path / "d.conll").write_text("sun\tO\nriver\tB-x\n\nsun\tB-y\n")
    config = Config(data=DataConfig(validation=str(tmp_path / "d.conll"), unknown_labels="drop"))
    tagger = TokenClassification(("O", "B-x", "I-x"))
    rows, count = tagger.drop_unknown_labels(TokenClassification.read(config, "validation"), config, "d")
    assert (len(rows), count) == (1, 1)
    task = TextClassification(("a", "b"))
    rows, count = task.drop_unknown_labels(with_label(["a", "z", "b", "y"]), config, "x")
    assert (rows["label"][:], count) == (["a", "b"], 2)
    with pytest.raises(UserError, match="x: no row has a known label"):
        task.drop_unknown_labels(with_label(["z"]), config, "x")
    rows, count = MultiLabel(("a", "b"), 0.5).drop_unknown_labels(with_label([["a", "z"], ["y"]]), config, "x")
    assert (len(rows), count) == (2, 2)
    with pytest.raises(UserError, match="no set of labels"):
        Regression(("score",)).drop_unknown_labels(rows, config, "x")


def test_a_subset_of_labels_can_be_learnt():
    assert learnt(["a", "b", "z"], labels=["b", "a"], data={"unknown_labels": "drop"}) == ("b", "a")
    with pytest.raises(UserError, match=r'row 3 has the label "z".*data\.unknown_labels drop'):
        learnt(["a", "b", "z"], labels=["b", "a"])


# Thousands of labels


def test_ten_thousand_labels_need_no_dense_table():
    rng = np.random.default_rng(0)
    gold, predicted = rng.integers(0, 10_000, (2, 5000))
    predicted[:4000] = gold[:4000]
    cells = SparseConfusion.count(gold, predicted, 10_000)
    scores = classification_scores(cells)
    assert scores["accuracy"] == np.mean(gold == predicted)
    assert len(cells.counts) <= 5000
    names = [f"class{i}" for i in range(10_000)]
    shown = cells.tables(names)["mistakes"]
    assert sum(map(len, shown.values())) <= MAX_MISTAKES
    assert all(gold not in row for gold, row in shown.items())
    few = SparseConfusion.count(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tables(["no", "yes"])
    assert few == {"confusion": [[1, 1], [0, 1]], "confusion_labels": ["no", "yes"]}
    assert MAX_TABLE_LABELS < 10_000


def test_a_label_without_a_column_is_refused():
    """It would otherwise count as a label that no text has."""
    task = MultiLabel(("a", "b", "c"), 0.5)
    rows = datasets.Dataset.from_dict({"a": [1, 0], "b": [0, 1], "c": [1, 1]})
    assert task.drop_unknown_labels(rows, Config(data=DataConfig(label=["c", "a", "b"])), "x.csv") == (rows, 0)
    with pytest.raises(UserError, match=r"data\.label names no column for c:"):
        task.drop_unknown_labels(rows, Config(data=DataConfig(label=["a", "b"])), "x.csv")


def test_every_problem_has_a_name_for_config_json():
    assert labels.PROBLEM_TYPES.keys() == PROBLEMS.keys()
    assert len(set(labels.PROBLEM_TYPES.values())) == len(PROBLEMS)
