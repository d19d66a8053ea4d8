"""`jaxft.pipeline`: inputs of all kinds, no compilation after warm-up, and the texts as they were given."""

import json

import numpy as np
import pytest

import jaxft
from jaxft.core.errors import UserError
from jaxft.evaluation import inference
from jaxft.models.model import make_model
from jaxft.pipelines import base
from jaxft.run import rundir
from jaxft.run.stored_cleaning import with_cleaning
from jaxft.step import compilation
from tests.support import ROOT, tiny
from tests.support.hostile import refused

ANSWERS = ROOT / "tests/goldens/answers"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("classifier") / "model", labels=tiny.LABELS)


@pytest.fixture(scope="module")
def classify(classifier):
    return jaxft.pipeline(classifier)


TEXTS = ["the old river", "sun", "a bright stone bridge runs under the river .", "storm " * 20, ""]


def test_one_text_a_list_and_an_iterator_give_the_same_labels(classify):
    every = classify(TEXTS)
    assert [set(x) for x in every] == [{"label", "score"}] * len(TEXTS)
    for text, expected in zip(TEXTS, every, strict=True):
        (one,) = classify(text)
        assert one["label"] == expected["label"]
        assert one["score"] == pytest.approx(expected["score"], abs=1e-6)
    lazy = classify(x for x in TEXTS)
    assert not isinstance(lazy, list)
    assert [x["label"] for x in lazy] == [x["label"] for x in every]
    assert classify([]) == []


def test_an_endless_iterator_is_read_ahead_by_one_chunk(classify, monkeypatch):
    monkeypatch.setattr(base, "FIRST", 4)
    monkeypatch.setattr(type(classify), "chunk", 4)
    read = []

    def endless():
        while True:
            read.append(1)
            yield "the river"

    found = classify(endless())
    assert [next(found)["label"] for _ in range(6)]
    assert len(read) <= 16
    found.close()


def test_nothing_is_compiled_after_warm_up(classifier, monkeypatch):
    pipe = jaxft.pipeline(classifier, max_length=32).warm_up()
    programs = pipe.forward.compiled
    assert programs == pipe.forward.shapes
    monkeypatch.setattr(compilation, "compile_lowered", None)
    rng = np.random.default_rng(0)
    for count in (1, 2, 7, 300):
        texts = [" ".join(rng.choice(tiny.WORDS, rng.integers(1, 40))) for _ in range(count)]
        assert len(pipe(texts)) == count
    assert pipe.forward.compiled == programs


def test_a_program_copies_no_kernels(tmp_path):
    """Of a stack of several layers, it would copy those of each layer at every call."""
    wide = {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512}
    own = jaxft.pipeline(tiny.write_model(tmp_path / "model", labels=tiny.LABELS, **wide)).forward
    assert own.program(own.shapes[0]).memory_analysis().temp_size_in_bytes < 4 * 128 * 512


def test_predictions_are_those_of_the_command(classifier, classify, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:4]))
    config = rundir.config_of(str(classifier), [f"--data.test={rows}", "--data.max_length=48"])
    config = inference.config_with_task(str(classifier), config)
    opened = inference.load_for_inference(str(classifier), config)
    for row, all_labels in zip(
        inference.predict(opened, inference.read_split(config, "test", labelled=False), "test"),
        classify(TEXTS[:4], top_k=None),
        strict=True,
    ):
        assert {x["label"]: pytest.approx(x["score"], abs=1e-6) for x in all_labels} == row["scores"]


def test_texts_are_cleaned_as_in_training(classifier, tmp_path):
    config = rundir.config_of(str(classifier), ["--data.clean.html_tags=true"])
    hf_config = with_cleaning(json.loads((classifier / "config.json").read_text()), config)
    folder = tmp_path / "cleaned"
    folder.mkdir()
    for path in classifier.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "config.json").write_text(json.dumps(hf_config))
    plain, cleaned = jaxft.pipeline(classifier), jaxft.pipeline(folder)
    assert cleaned("<b>the</b> river") == plain("the river")
    assert cleaned("<b>the</b> river") != plain("<b>the</b> river")


def test_entities_are_those_of_the_text_as_it_was_given(tmp_path):
    folder, config = tmp_path / "tagger", tiny.CONFIG | {"task_specific_params": {"jaxft": {"clean": {"html_tags": True}}}}
    names = {"id2label": {"0": "O", "1": "B-X"}, "label2id": {"O": 0, "B-X": 1}}
    model = make_model(config | names | {"architectures": ["BertForTokenClassification"]}, "token-classification", "tiny")
    jaxft.save(model, tiny.random_params(model), folder)
    tiny.write_tokenizer(folder)
    text = "<b>the</b> old <i>river</i> runs"
    found = jaxft.pipeline(folder)(text, ignore_labels=[])
    assert [text[x["start"] : x["end"]] for x in found] == ["the", "old", "river", "runs"]


def test_answers_are_those_of_hugging_face():
    answer = jaxft.pipeline(ANSWERS, doc_stride=10)
    expected = json.loads((ANSWERS / "expected.json").read_text(encoding="utf-8"))
    rows = [{name: row[name] for name in ("question", "context")} for row in expected["rows"]]
    for number, options in enumerate(expected["options"]):
        for row, wanted, found in zip(rows, expected["rows"], answer(rows, **options), strict=True):
            theirs, ours = (x if isinstance(x, list) else [x] for x in (wanted["answers"][number], found))
            theirs = [x for x in theirs if x["score"] or (not x["answer"] and options.get("handle_impossible_answer"))]
            assert len(ours) == len(theirs)
            for one, other in zip(ours, theirs, strict=True):
                assert one == other | {"score": pytest.approx(other["score"], abs=1e-5)}
                assert row["context"][one["start"] : one["end"]] == one["answer"]
    one = answer(**rows[0])
    assert one == answer(rows)[0] | {"score": pytest.approx(one["score"], abs=1e-5)}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: x(5), ["the input is 5", "text"]),
        (lambda x: x(["a", None]), ["None", "must be a text"]),
        (lambda x: x({"txt": "a"}), ["txt", "text_pair"]),
        (lambda x: x("a", topk=2), ["no option topk", "top_k"]),
        (lambda x: x("a", function_to_apply="tanh"), ["tanh", "softmax"]),
    ],
)
def test_wrong_inputs_and_options_are_refused(classify, call, words):
    refused(lambda: call(classify), *words)


def test_wrong_models_are_refused(classifier, tmp_path):
    refused(lambda: jaxft.pipeline(tmp_path / "none"), "no such directory")
    refused(lambda: jaxft.pipeline(classifier, "translation"), "translation", "text-classification")
    refused(lambda: jaxft.pipeline(classifier, "fill-mask"), "text-classification", "fill-mask")
    with pytest.raises(UserError, match="no option"):
        jaxft.pipeline(classifier, stride=4)


def test_models_that_differ_only_in_their_weights_share_programs(tmp_path):
    tiny.write_model(tmp_path / "one", labels=["calm", "loud"])
    tiny.write_model(tmp_path / "other", labels=["dry", "wet"], seed=1)
    tiny.write_model(tmp_path / "changed", labels=["dry", "wet"], seed=1, hidden_act="silu")
    one, other, changed = (jaxft.pipeline(tmp_path / x, max_length=16) for x in ("one", "other", "changed"))
    alone = other(TEXTS[:2], top_k=None)
    programs = [each.forward.program(one.forward.shapes[0]) for each in (one, other, changed)]
    assert programs[0] is programs[1] is not programs[2]
    assert other(TEXTS[:2], top_k=None) == alone != one(TEXTS[:2], top_k=None)
