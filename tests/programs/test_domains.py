"""Domain-adversarial training in the train step of a run: any layout and any task, and exact resuming."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxft.run.setup import make_run
from jaxft.step.domains import DOMAIN
from tests.support import tiny, weighed
from tests.support.every_task import KINDS
from tests.support.resuming import MODEL, assert_resume_is_exact
from tests.support.steps import assert_same, configure, gradients, rearranged

EIGHT = {"data": 4, "fsdp": 2, "micro_batches": 2}
# Class weights, so that the weight of the task's loss is not a number of examples.
SECTIONS = {"task": {"class_weights": [1.0, 2.0, 0.5]}, "train": {"batch_size": 16, "epochs": 2}}


@pytest.fixture
def texts(tmp_path):
    return tiny.write_rows(tmp_path / "texts.csv", 40, seed=3, columns=("text", "shelf"))


def test_gradients_do_not_depend_on_the_layout(classifier, tiny_data, tmp_path, texts):
    """The last step has few labelled examples, but as many texts as the others."""
    domains = {"texts": str(texts), "per_step": 6, "hidden": 5}
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", **SECTIONS, domains=domains))
    assert f"domains: data.train 100, {texts} 40 texts" in run.notes
    expected = gradients(rearranged(run, "pad"))
    assert {name for name in expected[0][1] if ".domains." in name} == {
        f"heads.domains.{layer}.{kind}" for layer in ("hidden", "output") for kind in ("kernel", "bias")
    }
    for layout in ({"layout": "pack"}, EIGHT):
        assert_same(rearranged(run, **layout), expected)


def test_texts_have_no_loss_of_the_task(classifier, tiny_data, tmp_path, texts):
    """With weight 0, the encoder and the head learn as from the labelled examples alone."""
    domains = {"texts": str(texts), "per_step": 6, "weight": 0}
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", **SECTIONS, domains=domains))
    plain = make_run(configure(classifier, tiny_data, tmp_path / "plain", **SECTIONS))
    assert run.steps_per_epoch == plain.steps_per_epoch
    examples = [run.epochs.first[0], plain.data["train"].examples]
    steps = [set(x.sampler.epoch_batches(0).examples(1).tolist()) for x in (run, plain)]
    assert {i for i in steps[0] if i < len(examples[1])} == steps[1]
    found, right = gradients(run), gradients(plain)
    for (loss, own), (plain_loss, other) in zip(found, right, strict=True):
        assert loss > plain_loss + 0.5
        for name, gradient in other.items():
            np.testing.assert_allclose(own[name], gradient, atol=1e-6, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_task_has_domains(kind, tmp_path):
    student = tiny.write_model(tmp_path / "model", num_hidden_layers=1)
    sections = {"model": {"path": str(student), **tiny.NO_DROPOUT}}
    plain = make_run(KINDS[kind](student, tmp_path, tmp_path / "plain", **sections))
    texts = [x.replace("train.", "dev.") if isinstance(x, str) else x for x in [plain.config.data.train]]
    run = make_run(KINDS[kind](student, tmp_path, tmp_path / "run", **sections, domains={"texts": texts, "per_step": 5}))
    own = run.epochs.texts
    assert own.columns[DOMAIN].tolist() == [1] * len(own)
    expected = gradients(rearranged(run, "pad"))
    assert np.isfinite([loss for loss, _ in expected]).all()
    assert_same(rearranged(run), expected)
    assert_same(rearranged(run, micro_batches=2, data=2, fsdp=2), expected)


@pytest.mark.parametrize("kind", ["classes", "tags", "spans", "words"])
def test_files_and_columns_name_domains(kind, tiny_model, tmp_path):
    """Of a copy of the rows in a second file; the weights stand for names."""
    config = weighed.configure(kind, tiny_model, tmp_path, tmp_path / "run")
    given = Path(config.data.train)
    other = given.with_stem("other")
    other.write_text(given.read_text().replace('"q0-', '"q1-'))
    data = replace(config.data, train=[str(given), str(other)])
    by_file = make_run(replace(config, data=data, domains=replace(config.domains, files=True)))
    found = by_file.data["train"].examples.columns[DOMAIN]
    half = len(found) // 2
    assert found.tolist() == [0] * half + [1] * half
    assert f"domains: {given} {half}, {other} {half}" in by_file.notes
    run = make_run(replace(config, data=data, domains=replace(config.domains, column=weighed.COLUMN)))
    names = sorted({f"{weighed.weight_of(i):g}" if kind != "classes" else str(weighed.weight_of(i)) for i in range(3)})
    rows = run.task.rows_of_examples(run.data["train"]) % weighed.ROWS
    assert run.data["train"].examples.columns[DOMAIN].tolist() == [
        [float(name) for name in names].index(weighed.weight_of(row)) for row in rows
    ]


WITH = {
    "fgm": {"adversarial": {"method": "fgm", "epsilon": 0.5}},
    "vat": {"adversarial": {"method": "vat", "epsilon": 0.5, "start": 0.3}},
    "r_drop": {"regularization": {"r_drop": 1.0, "neftune": 1e-30}},  # which makes passes differ, but not in any bit
    "lora": {"plan": {"preset": "lora"}},
    "gradual": {"plan": {"preset": "gradual", "unfreeze_every": 3}},
    "augmentation": {"augment": {"steps": [{"step": "delete", "rate": 0.3}]}},
}


@pytest.mark.slow
@pytest.mark.parametrize("other", WITH)
def test_other_methods_have_domains(classifier, tiny_data, tmp_path, texts, other):
    domains = {"texts": str(texts), "per_step": 6}
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", **SECTIONS, domains=domains, **WITH[other]))
    assert {"heads.domains.output.kernel", "heads.main.classifier.kernel"} <= gradients(run)[0][1].keys()
    expected = gradients(rearranged(run, "pad"))
    assert_same(rearranged(run, **EIGHT), expected)


@pytest.mark.slow
def test_a_student_learns_from_labelled_examples_only(classifier, tiny_data, tmp_path, texts):
    """With weight 0, the gradients of the model are those of a distillation without domains."""
    teacher = tiny.write_model(tmp_path / "teacher", labels=tiny.LABELS, seed=5)
    sections = {"distill": {"teacher": str(teacher)}, "train": {"batch_size": 16, "epochs": 2}}
    domains = {"texts": str(texts), "per_step": 6, "weight": 0}
    run = make_run(configure(classifier, tiny_data, tmp_path / "run", **sections, domains=domains))
    right = gradients(make_run(configure(classifier, tiny_data, tmp_path / "plain", **sections)))
    for (_, own), (_, other) in zip(gradients(run), right, strict=True):
        for name, gradient in other.items():
            np.testing.assert_allclose(own[name], gradient, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_resuming_is_exact(classifier, tiny_data, tmp_path):
    """With domains of a column, and dropout; tests/runs/test_domains.py resumes a run with texts."""
    lines = (tiny_data / "train.csv").read_text().splitlines()
    named = [f"{lines[0]},shelf", *(f"{line},{i % 3}" for i, line in enumerate(lines[1:]))]
    (tmp_path / "train.csv").write_text("\n".join(named) + "\n")
    sections = {"model": {"path": str(classifier)}, "domains": {"column": "shelf"}}
    sections["data"] = {"validation": None, "train": str(tmp_path / "train.csv")}
    assert_resume_is_exact(classifier, tiny_data, tmp_path, MODEL, **sections)
