"""Mixup, cut-off and consistency training: the same gradients in every layout, in micro-batches and on eight devices."""

import csv

import numpy as np
import pytest

from jaxft.core.errors import UserError
from jaxft.data.augmentation.pairs import LABELLED, LAYER, PRESENT, RATIO
from jaxft.preflight.costs import step_costs
from jaxft.run.setup import make_run
from tests.support import tagged, tiny
from tests.support.steps import assert_same, configure, gradients, rearranged

CUTOFF = {"cutoff_tokens": 0.2, "cutoff_span": 0.1, "cutoff_features": 0.25, "share": 0.8}
MIXUP = {"mixup": 0.6, "mixup_layers": [0, 1, 2]}
STEPS = {"steps": [{"step": "delete", "rate": 0.3}]}
LAYOUTS = [{"layout": "bucket"}, {"layout": "pack"}, {"data": 4, "fsdp": 2, "micro_batches": 2}]


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    path = tmp_path_factory.mktemp("unlabelled") / "texts.csv"
    tiny.write_rows(path, 70, seed=9)
    with open(path, newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    path.write_text("text\n" + "\n".join(texts) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def sections(unlabelled):
    return {
        "cutoff": {"augment": CUTOFF},
        "mixup": {"augment": MIXUP},
        "mixup of augmented texts": {"augment": MIXUP | STEPS},
        "consistency": {
            "augment": STEPS | {"share": 0.0},
            "unlabelled": {"data": str(unlabelled), "ratio": 2, "temperature": 0.5, "confidence": 0.35},
        },
    }


@pytest.mark.parametrize("method", ["cutoff", "mixup", "mixup of augmented texts", "consistency"])
def test_gradients_do_not_depend_on_the_layout(classifier, tiny_data, tmp_path, sections, method):
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", **sections[method]))
    expected = gradients(rearranged(run, "pad"))
    plain = gradients(rearranged(make_run(configure(classifier, tiny_data, tmp_path / "plain")), "pad"))
    assert all(abs(a[0] - b[0]) > 1e-4 for a, b in zip(expected, plain, strict=True))
    for layout in LAYOUTS:
        assert_same(rearranged(run, **layout), expected)


@pytest.mark.parametrize("layout", [LAYOUTS[1], pytest.param(LAYOUTS[2], marks=pytest.mark.slow)], ids=str)
def test_tags_are_mixed_in_every_layout(tiny_model, tmp_path, layout):
    folder = tagged.write_files(tmp_path)
    sections = {"model": tiny.NO_DROPOUT, "augment": MIXUP, "train": {"batch_size": 8}}
    run = make_run(tagged.configure(tiny_model, folder, tmp_path / "run", **sections))
    assert_same(rearranged(run, **layout), gradients(rearranged(run, "pad")))


def test_epochs_of_pairs(classifier, tiny_data, tmp_path, sections):
    """Every example is in an epoch once; texts without labels take turns, each pass over them in another order."""
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", **sections["mixup"]))
    (first, _), (second, _) = run.epochs(0), run.epochs(1)
    given = run.data["train"].examples
    for examples in (first, second):
        assert examples.columns[PRESENT].sum() == len(given)
        assert np.bincount(examples.columns["labels"].ravel()).tolist() == np.bincount(given.columns["labels"]).tolist()
        assert set(examples.columns[LAYER]) == {0, 1, 2}
        assert ((examples.columns[RATIO] >= 0.5) & (examples.columns[RATIO] <= 1)).all()
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", **sections["consistency"]))
    steps, size = run.steps_per_epoch, run.config.train.batch_size
    seen = []
    for epoch in range(3):
        examples, _ = run.epochs(epoch)
        labelled = examples.columns[LABELLED]
        assert labelled.sum() == len(given)
        assert (labelled == 0).sum() == 2 * 2 * size * steps
        begins = examples.offsets[:-1].reshape(-1, 2)[labelled[:, 0] == 0]
        ends = examples.offsets[1:].reshape(-1, 2)[labelled[:, 0] == 0]
        ids = examples.tokens["input_ids"]
        seen += [ids[a:b].tobytes() for a, b in zip(begins[:, 0], ends[:, 0], strict=True)]
        changed = np.mean((ends - begins)[:, 0] != (ends - begins)[:, 1])
        assert changed > 0.5
    counts = {text: seen.count(text) for text in set(seen)}
    assert max(counts.values()) - min(counts.values()) <= 1 or len(set(seen)) < 70  # a few texts may be equal
    batches = run.sampler.epoch_batches(0)
    examples, _ = run.epochs(0)
    for step in range(steps - 1):
        own = examples.columns[LABELLED][batches.examples(step)][:, 0]
        assert (own == 1).sum() == size // 2
        assert (own == 0).sum() == 2 * size


@pytest.mark.slow
def test_costs_of_a_step_with_texts_without_labels(classifier, tiny_data, tmp_path, sections):
    own = sections["consistency"]["unlabelled"] | {"annealing": "exp"}
    run = make_run(
        configure(
            classifier, tiny_data, tmp_path / "run", **sections["consistency"] | {"unlabelled": own}, data={"shapes": 1}
        )
    )
    (costs,) = step_costs(run).values()
    assert costs[0].flops > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"augment": MIXUP, "train": {"batch_size": 7}}, ["train.batch_size is 7", "even"]),
        ({"augment": {"mixup": 0.4, "mixup_layers": [3]}}, ["augment.mixup_layers has 3", "2 layers"]),
        ({"unlabelled": {"data": "HERE"}}, ["unlabelled.data needs augment.steps"]),
        ({"unlabelled": {"data": "HERE"}, "augment": STEPS | MIXUP}, ["unlabelled.data and augment.mixup"]),
        (
            {"unlabelled": {"data": "HERE", "ratio": 5}, "augment": STEPS},
            ["unlabelled.ratio is 5", "80 texts", "only 70", "at most 4"],
        ),
        (
            {"unlabelled": {"data": "HERE", "ratio": 1}, "augment": STEPS, "train": {"batch_size": 80}},
            ["unlabelled.ratio is 1", "80 texts", "only 70", "smaller train.batch_size"],
        ),
        ({"unlabelled": {"data": "missing.csv"}, "augment": STEPS}, ["unlabelled.data", "missing.csv"]),
        (
            {"unlabelled": {"data": "HERE", "annealing": "log"}, "augment": STEPS, "train": {"micro_batches": 2}},
            ["unlabelled.annealing", "micro_batches"],
        ),
        (
            {"unlabelled": {"data": "HERE"}, "augment": STEPS, "task": {"name": "fill-mask"}},
            ["unlabelled.data", "one label", "fill-mask"],
        ),
        (
            {"unlabelled": {"data": "HERE", "annealing": "log"}, "augment": STEPS, "regularization": {"r_drop": 1}},
            ["unlabelled.annealing and regularization.r_drop"],
        ),
        ({"augment": MIXUP, "distill": {"teacher": "CLASSIFIER"}}, ["augment.mixup and distill.teacher"]),
        ({"task": {"name": "fill-mask"}, "augment": MIXUP}, ["augment.mixup", "fill-mask"]),
        ({"augment": {"mixup_layers": [1]}}, ["augment.mixup_layers is [1]", "augment.mixup is null"]),
        ({"unlabelled": {"ratio": 5}}, ["unlabelled.ratio is 5", "unlabelled.data is null"]),
    ],
    ids=str,
)
def test_what_does_not_go_together(classifier, tiny_data, tmp_path, unlabelled, options, words):
    if options.get("unlabelled", {}).get("data") == "HERE":
        options = options | {"unlabelled": options["unlabelled"] | {"data": str(unlabelled)}}
    if "distill" in options:
        options = options | {"distill": {"teacher": str(classifier)}}
    with pytest.raises(UserError) as error:
        make_run(configure(classifier, tiny_data, tmp_path / "run", **options))
    assert all(word in str(error.value) for word in words), error.value
