"""Augmented epochs: the same texts and gradients in every layout and on any devices, and new ones in every epoch."""

import json
import random
from concurrent.futures import CancelledError
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.core.errors import UserError
from jaxft.core.random_keys import root_key
from jaxft.data.augmentation.engine import DRAWN, UNCHANGED
from jaxft.run import augmentation
from jaxft.run.augmentation import TOO_LONG, WINDOWS
from jaxft.run.loss import run_prepare
from jaxft.run.setup import make_run
from jaxft.training.frozen_features import frozen_layers
from tests.support import choices, questions, tagged, tiny
from tests.support.steps import assert_same, configure, gradients, rearranged, training_examples

STEPS = [{"step": "delete", "rate": 0.2}, {"step": "swap", "rate": 0.2}, {"step": "spelling"}]
PIECES = [{"step": "mask_pieces", "rate": 0.3}, {"step": "drop_pieces", "rate": 0.2}]


def augment(*steps: dict, **options) -> dict:
    return {"steps": list(steps), "share": 1.0, **options}


def texts(run, epoch: int) -> list[list[str]]:
    """The word pieces of the examples of an epoch."""
    examples = run.epochs.augmentation.epoch(epoch).examples
    words = np.array(tiny.VOCABULARY)[examples.tokens["input_ids"]]
    return [x.tolist() for x in np.split(words, examples.offsets[1:-1])]


def same(one, other) -> bool:
    """Whether two sets of examples are equal in every column."""
    pairs = [(one.offsets, other.offsets)]
    pairs += [(x, other.tokens[name]) for name, x in one.tokens.items()]
    pairs += [(x, other.columns[name]) for name, x in one.columns.items()]
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def run(classifier, tiny_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return make_run(configure(classifier, tiny_data, folder / "run", augment=augment(*STEPS, *PIECES)))


@pytest.mark.parametrize(
    "sections",
    [
        {"data": {"layout": "pad"}},
        {"data": {"layout": "bucket", "shapes": 3}, "train": {"epochs": 5, "batch_size": 7}},
        {"mesh": {"data": 4, "fsdp": 2}, "train": {"epochs": 2, "batch_size": 16, "micro_batches": 2}},
    ],
    ids=str,
)
def test_texts_do_not_depend_on_layout_batches_and_devices(run, classifier, tiny_data, tmp_path, sections):
    other = make_run(configure(classifier, tiny_data, tmp_path / "run", augment=augment(*STEPS, *PIECES), **sections))
    assert all(
        same(run.epochs.augmentation.epoch(n).examples, other.epochs.augmentation.epoch(n).examples) for n in (0, 1, 6)
    )


def test_texts_do_not_depend_on_the_chunks_in_which_rows_are_read(run, monkeypatch):
    whole = run.epochs.augmentation.epoch(2)
    monkeypatch.setattr(augmentation, "CHUNK", 7)
    parts = run.epochs.augmentation.epoch(2)
    assert same(parts.examples, whole.examples)
    assert parts.counts == whole.counts


@pytest.mark.parametrize("layout", [{"layout": "bucket"}, {}, {"data": 4, "fsdp": 2, "micro_batches": 2}], ids=str)
def test_gradients_do_not_depend_on_the_layout(run, layout):
    split = run.data["train"]
    augmented = replace(run, epochs=None, data={"train": replace(split, examples=run.epochs.augmentation.epoch(3).examples)})
    assert_same(rearranged(augmented, **layout), gradients(rearranged(augmented, "pad")))


def test_an_epoch_is_not_finished_after_the_end_of_the_run(run):
    with pytest.raises(CancelledError):
        run.epochs.augmentation.epoch(5, stop=lambda: True)


def test_every_epoch_has_other_texts_of_the_same_rows(run):
    given = run.data["train"].examples
    epochs = [run.epochs.augmentation.epoch(n).examples for n in (0, 1, 2)]
    assert all(len(x) == len(given) for x in epochs)
    assert all(np.array_equal(x.columns["labels"], given.columns["labels"]) for x in epochs)
    for one, other in ((texts(run, 0), texts(run, 1)), (texts(run, 1), texts(run, 2))):
        assert np.mean([a != b for a, b in zip(one, other, strict=True)]) > 0.5
    assert all(text[0] == "[CLS]" and text[-1] == "[SEP]" and len(text) > 2 for text in texts(run, 1))
    assert run.epochs.augmentation.longest >= max(int(x.lengths.max()) for x in (given, *epochs))


def test_a_row_is_augmented_alike_whatever_rows_are_read_with_it(classifier, tiny_data, tmp_path, run):
    """Also if rows before it are set aside for validation."""
    data = {"validation": None, "validation_share": 0.3}
    part = make_run(configure(classifier, tiny_data, tmp_path / "run", data=data, augment=augment(*STEPS, *PIECES)))
    rows = (np.asarray(part.epochs.augmentation.source(1).numbers) - 1).tolist()
    whole = texts(run, 1)
    assert texts(part, 1) == [whole[i] for i in rows]


def test_half_of_the_examples_stay_as_they_are(classifier, tiny_data, tmp_path):
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", augment=augment(*STEPS, *PIECES, share=0.5)))
    given, made = run.data["train"].examples, run.epochs.augmentation.epoch(4)
    before = np.split(given.tokens["input_ids"], given.offsets[1:-1])
    after = np.split(made.examples.tokens["input_ids"], made.examples.offsets[1:-1])
    changed = sum(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert 30 <= changed <= made.counts[DRAWN] <= 65
    assert made.line(4) == f"augmentation: {made.counts[DRAWN]} of 100 rows drawn in epoch 4, {changed} edited"


def test_what_relies_on_unchanged_texts_is_off(classifier, tiny_data, tmp_path):
    options = {"plan": {"preset": "head"}, "vocabulary": {}}
    plain, other = (
        make_run(configure(classifier, tiny_data, tmp_path / "run", **options, **more))
        for more in ({}, {"augment": augment(*STEPS)})
    )
    assert frozen_layers(plain) == 2
    assert frozen_layers(other) == 0
    assert other.changes_texts
    assert other.used_words is None


def test_an_example_that_would_be_longer_than_all_others_stays_and_is_counted(classifier, tiny_data, tmp_path):
    (tmp_path / "s.tsv").write_text("river\t" + " ".join(["stone"] * 9) + "\n")
    steps = augment({"step": "replace", "rate": 1, "file": str(tmp_path / "s.tsv")})
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", augment=steps, data={"truncation": False}))
    made = [run.epochs.augmentation.epoch(n) for n in range(4)]
    assert all(x.examples.lengths.max() <= 32 for x in made)
    long = made[0].counts[TOO_LONG]
    assert long > 0
    assert f"the others unchanged ({made[0].counts[UNCHANGED]}: nothing to edit; {long}: {TOO_LONG})" in made[0].line(0)


def test_counts_of_rows_add_up(classifier, tiny_data, tmp_path):
    """Also with steps on word pieces: these leave the rows alone that stay as they were, and may find nothing to edit."""
    (tmp_path / "s.tsv").write_text("river\t" + " ".join(["stone"] * 9) + "\n")
    replacing = {"step": "replace", "rate": 1, "file": str(tmp_path / "s.tsv")}
    for rate in (1, 1e-9):
        steps = augment(replacing, {"step": "mask_pieces", "rate": rate})
        run = make_run(configure(classifier, tiny_data, tmp_path / "run", augment=steps, data={"truncation": False}))
        given, made = run.data["train"].examples, run.epochs.augmentation.epoch(2)
        before, after = (np.split(x.tokens["input_ids"], x.offsets[1:-1]) for x in (given, made.examples))
        same = sum(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        assert made.counts[TOO_LONG] > 0
        assert made.counts[TOO_LONG] + made.counts[UNCHANGED] == same < made.counts[DRAWN] == 100


def test_tags_stay_with_their_words(tiny_model, tmp_path):
    """Also in sentences of several windows; the examples of an epoch are the windows of the edited sentences."""
    folder = tagged.write_files(tmp_path)
    steps = augment({"step": "delete", "rate": 0.2}, {"step": "swap"}, {"step": "mask_pieces"}, {"step": "replace_mentions"})
    run = make_run(tagged.configure(tiny_model, folder, tmp_path / "run", model=tiny.NO_DROPOUT, augment=steps))
    names, kinds = np.array(["-", *run.task.names]), {"stone": "place", "river": "place", "sun": "mood", "storm": "mood"}
    given = run.data["train"].examples
    seen, windows = 0, 0
    for epoch in range(4):
        made = run.epochs.augmentation.epoch(epoch)
        examples = made.examples
        assert len(examples) == len(given)
        windows += made.counts[WINDOWS]
        words, labels = np.array(tiny.VOCABULARY)[examples.tokens["input_ids"]], names[examples.tokens["labels"]]
        for word, label in zip(words, labels, strict=True):
            if word in kinds and label != "-":
                assert label == f"B-{kinds[word]}"
                seen += 1
            elif word == "bridge" and label != "-":
                assert label == "I-place"
        assert not np.array_equal(examples.tokens["input_ids"], given.tokens["input_ids"])
    assert seen > 100
    assert windows > 0


SCHEMES = {  # the tags of an entity of one word, and of one of two words
    "iob2": ("B-place", ["B-place", "I-place"]),
    "iob1": ("I-place", ["I-place", "I-place"]),
    "bioes": ("S-place", ["B-place", "E-place"]),
    "bilou": ("U-place", ["B-place", "L-place"]),
    "bmes": ("S-place", ["B-place", "E-place"]),
}
OUTSIDE = [{"step": name, "rate": 0.5} for name in ("delete", "swap", "spelling", "keyboard", "case")]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_entities_are_kept_in_every_scheme_of_tags(tiny_model, tmp_path, scheme):
    """In IOB1 two entities would become one if the word between them were deleted."""
    single, more = SCHEMES[scheme]
    words = ["runs", "river", "and", "stone", "bridge", "under", "the", "sun"]
    rows = [(words, ["O", single, "O", *more, "O", "O", "O"])] * 30
    for name in ("train", "dev"):
        tagged.write_conll(tmp_path / f"{name}.conll", rows)
    (tmp_path / "synonyms.tsv").write_text("and,old lake,over\nunder\tsong over\nsun\tstorm\n")
    synonyms = [{"step": name, "rate": 0.5, "file": str(tmp_path / "synonyms.tsv")} for name in ("insert", "replace")]
    steps = augment(*OUTSIDE, *synonyms)
    sections = {"task": {"tag_scheme": scheme}, "augment": steps, "data": {"max_length": 32}}
    run = make_run(tagged.configure(tiny_model, tmp_path, tmp_path / "run", **sections))
    names, vocabulary = np.array(["-", *run.task.names]), np.array(tiny.VOCABULARY)
    for epoch in range(3):
        examples = run.epochs.augmentation.epoch(epoch).examples
        labels = names[examples.tokens["labels"]]
        found = zip(labels, vocabulary[examples.tokens["input_ids"]], strict=True)
        entities = [(label, word) for label, word in found if label not in ("-", "O")]
        assert entities == [("B-place", "river"), ("B-place", "stone"), ("I-place", "bridge")] * 30
        assert len(set(np.diff(examples.offsets))) > 3


def test_answers_are_found_where_they_are(tmp_path):
    model = questions.write_model(tmp_path / "model")
    rows = questions.make(60, 0, unanswerable=0.2)
    for name in ("train", "dev"):
        questions.write(tmp_path / f"{name}.json", rows)
    steps = augment({"step": "delete", "rate": 0.2}, {"step": "swap", "rate": 0.3}, {"step": "mask_pieces", "rate": 0.2})
    run = make_run(questions.configure(model, tmp_path, tmp_path / "run", model=tiny.NO_DROPOUT, augment=steps))
    given = run.data["train"].examples

    def answers(examples) -> list[str]:
        words = np.array(tiny.VOCABULARY)[examples.tokens["input_ids"]]
        spans = zip(examples.starts, examples.columns["start_positions"], examples.columns["end_positions"], strict=True)
        return [" ".join(words[start + first : start + last + 1]) for start, first, last in spans]

    for epoch in range(3):
        made = run.epochs.augmentation.epoch(epoch).examples
        assert answers(made) == answers(given)
        assert not np.array_equal(made.tokens["input_ids"], given.tokens["input_ids"])
        assert not np.array_equal(made.columns["start_positions"], given.columns["start_positions"])


def test_choices_keep_their_number_and_label(tiny_model, tmp_path):
    rng = random.Random(0)
    for name in ("train", "dev"):
        lines = [json.dumps(choices.row(rng)) for _ in range(40)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    steps = augment({"step": "swap", "rate": 0.4}, *PIECES)
    run = make_run(choices.configure(tiny_model, tmp_path, tmp_path / "run", model=tiny.NO_DROPOUT, augment=steps))
    given, made = run.data["train"].examples, run.epochs.augmentation.epoch(1).examples
    assert made.group == given.group == 3
    assert len(made) == len(given)
    assert np.array_equal(made.columns["labels"], given.columns["labels"])
    assert not np.array_equal(made.offsets, given.offsets)


def test_two_choices_are_no_pair(tiny_model, tmp_path):
    """Only mixup and texts without labels put examples in pairs, whose batches a step takes apart."""
    rows = [{**choices.row(random.Random(i)), "label": i % 2} for i in range(40)]
    for name in ("train", "dev"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    sections = {"model": tiny.NO_DROPOUT, "data": {"choices": choices.ENDINGS[:2]}, "augment": augment({"step": "swap"})}
    run = make_run(choices.configure(tiny_model, tmp_path, tmp_path / "run", **sections))
    examples = training_examples(run)
    assert examples.group == 2
    batch = {name: jnp.asarray(x) for name, x in run.sampler.epoch_batches(0).batch(examples, 0).items()}
    prepared = run_prepare(run)(batch, root_key(0))
    assert prepared.keys() == batch.keys()
    assert all(np.array_equal(x, batch[name]) for name, x in prepared.items())


def test_steps_that_a_task_cannot_use(tiny_model, tiny_data, tmp_path):
    def refused(config, *words):
        with pytest.raises(UserError) as error:
            make_run(config)
        assert all(word in str(error.value) for word in words)

    config = configure(tiny_model, tiny_data, tmp_path / "run", augment=augment({"step": "replace_mentions"}))
    refused(config, "augment.steps 1: replace_mentions cannot be used for text-classification", "words with tags")
    folder = tagged.write_files(tmp_path)
    config = tagged.configure(tiny_model, folder, tmp_path / "run", augment=augment({"step": "drop_pieces"}))
    refused(config, "drop_pieces cannot be used for token-classification", "tags")
    steps = augment({"step": "delete"})
    config = configure(tiny_model, tiny_data, tmp_path / "run", task={"name": "fill-mask"}, augment=steps)
    refused(config, "augment.steps", "fill-mask")
