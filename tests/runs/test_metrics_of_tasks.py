"""A metric that is a function of predictions and references gets those of every task."""

import json
import random

import numpy as np
import pytest

from jaxft.train import train
from tests.support import choices, labelled_texts, questions, tagged, tiny
from tests.support.official_squad import compute_exact

SHORT = {"model": {"num_layers": 1, **tiny.NO_DROPOUT}, "plan": {"preset": "head"}, "train": {"max_steps": 1}}


def exact(predictions, references):
    """The official rule of SQuAD, over lists of texts."""
    pairs = zip(predictions, references, strict=True)
    return np.mean([max(compute_exact(right, given) for right in rights or [""]) for given, rights in pairs])


def several_labels(start, folder, output, **sections):
    return labelled_texts.configure(start, labelled_texts.write_files(folder), output, labelled_texts.MULTI, **sections)


def numbers(start, folder, output, **sections):
    base = {"task": {"problem": "regression"}, "data": {"label": "songs"}}
    return labelled_texts.configure(start, labelled_texts.write_files(folder), output, base, **sections)


def tags(start, folder, output, **sections):
    return tagged.configure(start, tagged.write_files(folder), output, **sections)


def answers(start, folder, output, **sections):
    for name, seed in (("train", 0), ("dev", 1)):
        questions.write(folder / f"{name}.json", questions.make(12, seed=seed, unanswerable=0.3))
    return questions.configure(start, folder, output, **sections)


def choice(start, folder, output, **sections):
    rng = random.Random(0)
    for name in ("train", "dev"):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(choices.row(rng))}\n" for _ in range(12)))
    return choices.configure(start, folder, output, **sections)


# configure, the metric of predictions and references, the same metric of jaxft
CASES = [
    (several_labels, "sklearn.metrics:accuracy_score", "subset_accuracy"),
    (numbers, "sklearn.metrics:mean_squared_error", "mse"),
    (tags, "seqeval.metrics:accuracy_score", "accuracy"),
    (answers, f"{__name__}:exact", "exact_match"),
    (choice, "sklearn.metrics:accuracy_score", "accuracy"),
]


@pytest.mark.parametrize(("configure", "metric", "own"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_metric_of_pairs_is_that_of_the_task(tiny_model, tmp_path, configure, metric, own):
    name = metric.partition(":")[2]
    scores = train(configure(tiny_model, tmp_path, tmp_path / "run", eval={"metrics": [metric]}, **SHORT))
    expected = scores[f"eval/{own}"] / (100 if own == "exact_match" else 1)
    assert scores[f"eval/{name}"] == pytest.approx(expected, rel=1e-6)
