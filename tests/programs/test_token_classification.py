"""Token classification: its loss, its labels and its scores."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

import jaxft
from jaxft import losses
from jaxft.config import Config, DataConfig, EvalConfig, TaskConfig
from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.data.batching.collect import Summary
from jaxft.data.formats.tagged import read_sentences
from jaxft.data.formats.tags import to_scheme_of
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.run.loss import make_loss
from jaxft.run.setup import make_run
from jaxft.step.parameters import Parameters
from jaxft.tasks.token_classification import TokenClassification
from tests.support import tiny
from tests.support.steps import assert_same, gradients, rearranged
from tests.support.tagged import LABELS, configure, sentences, write_conll, write_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_files(tmp_path_factory.mktemp("conll"))


@pytest.fixture(scope="module")
def tagger(tiny_model, tmp_path_factory) -> Path:
    """A random tagger with one layer."""
    directory = tmp_path_factory.mktemp("tagger") / "model"
    model, params = jaxft.load(str(tiny_model), "token-classification", labels=LABELS, num_layers=1, seed=1)
    jaxft.save(model, jax.tree.map(lambda x: x * 3, params), directory)
    return directory


# Loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_with_class_weights_is_torchs(smoothing):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (40, 5)).astype(np.float32), rng.integers(0, 5, 40)
    by_class = np.array([0.2, 1, 3, 0, 0.5], np.float32)
    real = (np.arange(40) < 33).astype(np.float32)
    total, weight = losses.cross_entropy(logits, np.where(real > 0, labels, -1), real, smoothing, by_class)
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(logits[:33]), torch.tensor(labels[:33]), torch.tensor(by_class), label_smoothing=smoothing
    )
    np.testing.assert_allclose(total / weight, theirs.item(), rtol=1e-6)


def test_only_labelled_tokens_have_a_loss():
    """Both the loss of labels and that of a teacher, with the same weight."""
    rng = np.random.default_rng(1)
    logits, teacher, noise = rng.normal(size=(3, 2, 6, 5)).astype(np.float32)
    labels = np.array([[0, 1, 0, 3, 5, 0], [0, 2, 2, 0, 0, 0]], np.int32)
    batch, unlabelled = {"labels": jnp.asarray(labels)}, (labels == 0)[..., None]
    task = TokenClassification(tuple(LABELS), class_weights=(1.0, 3.0, 2.0, 8.0, 1.5), label_smoothing=0.1)

    def both(logits, teacher):
        outputs = {"logits": jnp.asarray(logits)}
        (pair,) = task.soft_pairs(outputs, {"logits": jnp.asarray(teacher)}, batch)
        return task.loss(outputs, batch, True), losses.soft_cross_entropy(pair, 2.0)

    hard, soft = both(logits, teacher)
    assert hard[1] == soft[1] == 1 + 2 + 1.5 + 3 + 3
    assert both(np.where(unlabelled, noise, logits), np.where(unlabelled, noise, teacher)) == (hard, soft)
    assert task.loss({"logits": jnp.asarray(logits)}, batch, False)[1] == 5  # evaluation weighs all alike


def run_ners_labels(tokenizer, rows, names: list[str], every_piece: bool) -> tuple[dict, np.ndarray]:
    """Hugging Face's `run_ner`: tokenize_and_align_labels, with label_all_tokens or without; padded."""
    encoded = tokenizer([words for words, _ in rows], is_split_into_words=True, padding=True, return_tensors="np")
    labels = np.full(encoded["input_ids"].shape, -100)
    for i, (_, tags) in enumerate(rows):
        before = None
        for j, word in enumerate(encoded.word_ids(i)):
            if word is not None and word != before:
                labels[i, j] = names.index(tags[word])
            elif word is not None and every_piece:
                labels[i, j] = names.index(tags[word].replace("B-", "I-"))
            before = word
    return dict(encoded), labels


def test_loss_and_gradients_are_transformers(tagger, tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForTokenClassification

    rows = sentences(5, 10, longest=4)
    write_conll(tmp_path / "train.conll", rows)
    write_conll(tmp_path / "dev.conll", rows)
    value_and_grad = None
    seen = []
    for pieces in ("first", "all"):
        options = {"task": {"label_pieces": pieces}, "model": tiny.NO_DROPOUT, "train": {"batch_size": 10}}
        run = make_run(configure(tagger, tmp_path, tmp_path / "run", **options))
        assert run.task.names == tuple(LABELS)  # the checkpoint's own, in its order, so that its head is kept
        batch = {name: x[0] for name, x in run.sampler.epoch_batches(0).batch(run.data["train"].examples, 0).items()}
        if value_and_grad is None:  # one program: which pieces count is in the batch
            loss = make_loss(run.model, run.task)

            def mean(params, batch, loss=loss):
                (total, weight), _ = loss(Parameters(params), batch, None, {})
                return total / weight, weight

            value_and_grad = jax.jit(jax.value_and_grad(mean, has_aux=True))
        (value, weight), grads = value_and_grad(run.params, batch)

        theirs = AutoModelForTokenClassification.from_pretrained(tagger).eval()
        inputs, labels = run_ners_labels(load_tokenizer(tagger), rows, LABELS, pieces == "all")
        right = theirs(**{k: torch.tensor(x) for k, x in inputs.items()}, labels=torch.tensor(labels)).loss
        right.backward()
        assert weight == (labels >= 0).sum()
        assert value == pytest.approx(right.item(), rel=1e-5)
        expected = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
        largest = max(np.abs(g).max() for g in expected.values())
        for name, g in tree.unstack(jax.tree.map(np.asarray, grads)).items():
            right = expected[run.model.naming.hf_name(name)]
            assert np.abs((g.T if name.endswith(".kernel") else g) - right).max() <= 1e-5 * largest, name
        seen.append(int(weight))
    assert seen[0] < seen[1]


LAYOUTS = {
    "pack": {},
    "bucket": {"layout": "bucket"},
    "3 micro-batches": {"micro_batches": 3},
    "data 4, fsdp 2": {"data": 4, "fsdp": 2},
}


@pytest.fixture(scope="module")
def weighted(tagger, folder, tmp_path_factory):
    """A run with every option of the loss; its examples are windows, and the last of 7 steps has fewer."""
    output = tmp_path_factory.mktemp("runs") / "run"
    sections = {
        "task": {"class_weights": "balanced", "label_pieces": "all"},
        "model": tiny.NO_DROPOUT,
        "train": {"batch_size": 8, "label_smoothing": 0.1},
    }
    run = make_run(configure(tagger, folder, output, **sections))
    assert 48 < len(run.data["train"].examples) < 56
    return run


@pytest.fixture(scope="module")
def reference(weighted):
    return gradients(rearranged(weighted, "pad"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_do_not_depend_on_the_layout(weighted, reference, layout):
    assert_same(rearranged(weighted, **LAYOUTS[layout]), reference)


def test_every_word_is_learnt_once(weighted):
    data = weighted.data["train"]
    flat = [word for words in data.rows["words"] for word in words]
    known = data.notes["first"] >= 0
    assert known.tolist() == [word != "\u200b" for word in flat]
    labels = data.examples.tokens["labels"]
    assert labels[data.notes["first"][known]].tolist() == (data.notes["gold"][known] + 1).tolist()
    pieces = {"sunly": 2, "brightly": 2, "\u200b": 0}
    assert np.count_nonzero(labels) == sum(pieces.get(word, 1) for word in flat)
    assert len(data.examples) > len(data.rows)


# Labels

BERT = {"model_type": "bert", "architectures": ["BertForTokenClassification"]}


def learn(rows: list[tuple[list[str], list[str]]], tmp_path, hf_config=None, metric=None, **task) -> TokenClassification:
    data = DataConfig(train=str(write_conll(tmp_path / "a.conll", rows)))
    config = Config(task=TaskConfig(name="token-classification", **task), data=data, eval=EvalConfig(metric=metric))
    read = read_sentences(data, "train", "label")
    return TokenClassification.learn(config, BERT | (hf_config or {}), read, "a.conll")


def test_labels_are_learnt_from_the_training_data(tmp_path):
    rows = [(["a", "b", "c"], ["I-x", "I-x", "B-x"]), (["d"], ["B-y"])]
    task = learn(rows, tmp_path)
    assert task.names == ("B-x", "B-y", "I-x", "I-y", "O")
    assert (task.scheme, task.metric) == ("auto", "f1")
    assert learn(rows, tmp_path, task_labels := {"id2label": {0: "O", 1: "I-x", 2: "B-x", 3: "I-y", 4: "B-y"}}).names == (
        tuple(task_labels["id2label"].values())
    )
    assert learn(rows, tmp_path, {"id2label": {0: "O", 1: "B-x"}}).names == task.names
    assert learn(rows, tmp_path, labels=["O", "S-y", "B-x"]).names == ("O", "B-x", "B-y", "I-x", "I-y")
    assert learn(rows, tmp_path, tag_scheme="none").names == ("B-x", "B-y", "I-x")
    classes = learn([(["a", "b"], ["NN", "VB"])], tmp_path)
    assert (classes.names, classes.scheme, classes.metric) == (("NN", "VB"), "none", "accuracy")


def test_balanced_weights_are_scikit_learns(tmp_path):
    rows = [(["a"] * 6, ["B-x", "I-x", "O", "O", "O", "B-y"])]
    task = learn(rows, tmp_path, class_weights="balanced")
    gold = np.array([0, 2, 4, 4, 4, 1])
    right = compute_class_weight("balanced", classes=np.unique(gold), y=gold)
    found = np.array(task.class_weights)
    np.testing.assert_allclose(found[np.unique(gold)], right)
    assert found[3] == 1  # I-y, which no word has
    assert learn(rows, tmp_path, class_weights=[2.0, 1, 0, 4, 0.5]).class_weights == (2, 1, 0, 4, 0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"class_weights": [1.0, 2.0]}, r"task\.class_weights has 2 numbers, but there are 5 labels"),
        ({"metric": "macro_f1"}, r"eval\.metric is macro_f1, but the tags mark entities: use f1, precision"),
        ({"metric": "f1", "tag_scheme": "none"}, r"eval\.metric is f1, but the tags are single .*: use accuracy, macro_f1"),
        ({"labels": ["O", "PER"]}, r'task\.labels has "PER", which is neither O nor begins'),
        ({"tag_scheme": "iob2"}, r'a\.conll: line 1 has the tag "I-x" \("a"\), which cannot begin a sentence \(iob2\)'),
        ({"tag_scheme": "bioes"}, r"line 1 .*cannot begin a sentence \(bioes\)"),
        ({"tag_scheme": "none", "labels": ["I-x", "B-x"]}, None),
    ],
)
def test_options_that_do_not_fit_the_tags_are_refused(tmp_path, options, words):
    rows = [(["a", "b", "c"], ["I-x", "I-x", "B-x"]), (["d"], ["B-y"])]
    if words is None:
        assert learn(rows, tmp_path, **options).names == ("I-x", "B-x")
    else:
        with pytest.raises(UserError, match=words):
            learn(rows, tmp_path, **options)


def test_a_single_tag_is_refused(tmp_path):
    with pytest.raises(UserError, match='the only tag is "O"'):
        learn([(["a"], ["O"])], tmp_path)


def test_a_task_is_restored_from_the_model():
    config, names = Config(), {"id2label": {0: "O", 1: "B-x", 2: "I-x"}}
    task = TokenClassification(("O", "B-x", "I-x"), "bioes", "all")
    again = TokenClassification.restore(config, names | task.config_fields)
    assert again == replace(task, scheme="auto")
    assert TokenClassification.restore(config, names).scheme == "auto"
    single = replace(task, scheme="none")
    assert TokenClassification.restore(config, names | single.config_fields).scheme == "none"
    assert TokenClassification.restore(config, {"id2label": {0: "O", 1: "S-x"}}).scheme == "auto"
    assert TokenClassification.restore(config, {"id2label": {0: "NN", 1: "VB"}}).scheme == "none"


OTHERS = [["o", "b-x", "i-x", "l-x", "u-x"], ["O", "B-x", "M-x", "E-x", "S-x"], ["x-B", "x-I", "O"]]


@pytest.mark.parametrize("labels", OTHERS)
def test_a_model_with_other_labels_is_scored_by_its_entities(tagger, tmp_path, labels):
    """Whatever the tag scheme and the spelling of the model and of the file."""
    iob2 = ["B-x", "O", "B-x", "I-x", "I-x", "B-x", "I-x"]
    task = TokenClassification.restore(Config(), {"id2label": dict(enumerate(labels))})
    config = configure(tagger, tmp_path, tmp_path / "run", data={"cache": False})
    gold = []
    for tags in (iob2, to_scheme_of(iob2, labels)):
        write_conll(tmp_path / "train.conll", [(["stone"] * 7, tags)])
        split = task.encode(task.read(config, "train"), load_tokenizer(tagger), tagger, config, "x")
        gold.append([labels[i] for i in split.notes["gold"]])
        right = np.maximum(split.examples.tokens["labels"] - 1, 0)
        wrong = right.copy()
        wrong[split.notes["first"][0]] = labels.index(to_scheme_of(["O"], labels)[0])
        scores = [task.scores(Summary(tokens={"predicted": x}), split) for x in (right, wrong)]
        assert [(x["precision"], x["recall"], x["accuracy"]) for x in scores] == [(1, 1, 1), (1, 2 / 3, 6 / 7)]
        found = next(iter(task.decode(Summary(tokens={"predicted": right, "score": np.ones(len(right))}), split)))
        assert found["tags"] == gold[0]
        assert [(x["type"], x["start"], x["end"]) for x in found["entities"]] == [("x", 0, 1), ("x", 2, 5), ("x", 5, 7)]
    assert gold[0] == gold[1] == to_scheme_of(iob2, labels)


@pytest.mark.parametrize(("how", "stored"), [(None, "punctuation"), ("spaces", "spaces")])
def test_a_model_stores_how_texts_are_split(tmp_path, how, stored):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "stone bridge, sun", "label": [[0, 12, "x"]]}) + "\n")
    data = DataConfig(train=str(tmp_path / "a.jsonl"), split_words=how)
    config = Config(task=TaskConfig(name="token-classification"), data=data)
    task = TokenClassification.learn(config, BERT, read_sentences(data, "train", "label"), "a.jsonl")
    again = TokenClassification.restore(Config(), {"id2label": dict(enumerate(task.names))} | task.config_fields)
    assert (task.split_words, again.split_words) == (stored, stored)
    (tmp_path / "a.csv").write_text('text,label\n"stone bridge, sun",B-x I-x O\n')
    data = replace(data, train=str(tmp_path / "a.csv"), split_words=None)
    read = read_sentences(data, "train", "label")
    assert TokenClassification.learn(replace(config, data=data), BERT, read, "a.csv").split_words == "spaces"


@pytest.mark.parametrize("scheme", ["auto", "none"])
def test_a_word_without_pieces_is_outside(tagger, tmp_path, scheme):
    rows = [(["\u200b", "stone", "bridge", "\u200b"], ["B-mood", "B-place", "I-place", "O"]), (["\u200b"], ["O"])]
    config = configure(tagger, tmp_path, tmp_path / "run", data={"cache": False})
    task = TokenClassification(tuple(LABELS), scheme)
    write_conll(tmp_path / "train.conll", rows)
    split = task.encode(task.read(config, "train"), load_tokenizer(tagger), tagger, config, "x")
    predicted = np.maximum(split.examples.tokens["labels"] - 1, 0)
    collected = Summary(tokens={"predicted": predicted, "score": np.full(len(predicted), 0.25, np.float32)})
    scores = task.scores(collected, split)
    assert scores["accuracy"] == 4 / 5
    entity = {"type": "place", "start": 1, "end": 3, "text": "stone bridge", "score": 0.25}
    first, last = task.decode(collected, split)
    assert first["tags"] == ["O", "B-place", "I-place", "O"]
    assert last["tags"] == ["O"]
    if scheme == "auto":
        assert (scores["precision"], scores["recall"]) == (1, 0.5)
        assert (first["entities"], last["entities"]) == ([entity], [])
    else:
        assert scores.keys() == {"accuracy", "macro_f1", "labels"}
        assert first.keys() == {"words", "tags"}
