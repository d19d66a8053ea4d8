"""Several teachers, teachers with tokenizers of their own and teachers in bfloat16, through the loss of a real run."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft
from jaxft.core import random_keys, tree
from jaxft.core.errors import UserError
from jaxft.models import forward
from jaxft.run.loss import run_loss
from jaxft.run.setup import Run, make_run
from jaxft.run.teachers import _narrowed
from jaxft.run.trained_models import teacher_paths
from jaxft.step.parameters import Parameters
from jaxft.teacher_cache.choice import choose
from jaxft.teacher_cache.fill import taught
from tests.support import questions, tiny
from tests.support.steps import configure

COUNT = 2


@pytest.fixture(scope="module")
def teachers(tmp_path_factory) -> list[str]:
    """Two classifiers that differ in depth and parameters."""
    folder = tmp_path_factory.mktemp("teachers")
    options = {"labels": tiny.LABELS, "initializer_range": 0.7}
    each = (tiny.write_model(folder / f"t{i}", seed=i + 5, num_hidden_layers=i % 2 + 1, **options) for i in range(COUNT))
    return [str(path) for path in each]


def loss_of(run: Run, step: int = 0) -> float:
    """The loss of a step, with the outputs of its teachers."""
    stored = choose(run).stored
    examples, _ = taught(run, stored, run.data["train"].examples, print)
    batch = {name: x[0] for name, x in run.sampler.epoch_batches(0).batch(examples, step).items()}
    params = Parameters(run.params, teachers={x.key: x.params for x in run.teachers if x.key not in stored})
    (total, weight), _ = jax.jit(run_loss(run, stored))(params, batch, random_keys.root_key(0), {})
    return float(total / weight)


def test_the_loss_against_several_teachers_is_the_weighted_mean(classifier, teachers, tiny_data, tmp_path):
    def loss(**distill):
        return loss_of(make_run(configure(classifier, tiny_data, tmp_path / "run", distill={"alpha": 0.7, **distill})))

    each = [loss(teacher=name) for name in teachers]
    assert np.std(each) > 0.002
    pattern = str(Path(teachers[0]).parent / "t*")
    assert loss(teacher=pattern, teacher_weights=[1, 5]) == pytest.approx(np.average(each, weights=[1, 5]), rel=1e-5)


@pytest.mark.slow
def test_outputs_of_tokens_have_a_mean_too(tmp_path):
    """Start and end of an answer, over the tokens of each example alone."""
    student, *names = (
        questions.write_model(tmp_path / str(i), seed=i, num_hidden_layers=1, initializer_range=0.7) for i in range(3)
    )
    for name in ("train", "dev"):
        questions.write(tmp_path / f"{name}.json", questions.make(9, seed=0))

    def loss(teacher):
        sections = {"model": tiny.NO_DROPOUT, "distill": {"teacher": teacher}}
        return loss_of(make_run(questions.configure(student, tmp_path, tmp_path / "run", **sections)))

    each = [loss(str(name)) for name in names]
    assert loss([str(name) for name in names]) == pytest.approx(np.mean(each), rel=1e-5)


def test_a_column_chooses_the_teacher_of_each_example(classifier, teachers, tiny_data, tmp_path):
    with open(tiny_data / "train.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = np.random.default_rng(0).integers(0, COUNT, len(rows))
    spelled = [str(n) if i % 2 else f"t{n}" for i, n in enumerate(numbers)]
    for name in ("train.csv", "dev.csv"):
        shutil.copyfile(tiny_data / name, tmp_path / name)
    with open(tmp_path / "train.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["text", "label", "by"], *([*row.values(), by] for row, by in zip(rows, spelled, strict=True))])
    options = {"distill": {"teacher": teachers}, "train": {"batch_size": 100}}
    run = make_run(configure(classifier, tmp_path, tmp_path / "run", data={"teacher": "by"}, **options))
    split = run.data["train"]
    assert split.examples.columns["teacher"].tolist() == numbers.tolist()
    found, right = loss_of(run), 0.0
    for number, teacher in enumerate(run.teachers):
        alone = replace(run, teachers=(replace(teacher, key="teacher"),))
        weights = (numbers == number).astype(np.float32)
        examples = split.examples.with_columns(own=weights)
        batch = {name: x[0] for name, x in run.sampler.epoch_batches(0).batch(examples, 0).items()}
        batch["weights"] = batch["own"]
        params = Parameters(run.params, teachers={"teacher": teacher.params})
        right += float(run_loss(alone)(params, batch, random_keys.root_key(0), {})[0][0])
    assert found == pytest.approx(right / len(rows), rel=1e-5)


def turned_vocabulary(given: str, directory: Path) -> Path:
    """The same model with other numbers for its tokens."""
    model, params = jaxft.load(given)
    words = (Path(given) / "vocab.txt").read_text().split("\n")[:-1]
    order = [0, *range(len(words) - 1, 0, -1)]
    table = params["encoder"]["embeddings"]["word_embeddings"]
    table["embedding"] = np.concatenate([table["embedding"][order], table["embedding"][len(words) :]])
    jaxft.save(model, params, directory)
    (directory / "vocab.txt").write_text("".join(f"{words[i]}\n" for i in order))
    return directory


def test_a_teacher_may_have_a_vocabulary_of_its_own(classifier, teachers, tiny_data, tmp_path):
    """Alone or beside others; the same teacher with other token numbers gives the same loss."""
    turned = str(turned_vocabulary(teachers[0], tmp_path / "turned"))

    def run(teacher):
        return make_run(configure(classifier, tiny_data, tmp_path / "run", distill={"teacher": teacher, "alpha": 1.0}))

    own = run(turned)
    assert not own.teachers[0].is_live
    assert "vocabulary of its own" in own.notes[0]
    assert loss_of(own) == pytest.approx(loss_of(run(teachers[0])), rel=1e-5)
    assert loss_of(run([turned, teachers[1]])) == pytest.approx(loss_of(run(teachers[:2])), rel=1e-5)


def test_a_teacher_in_bfloat16_keeps_its_outputs_in_less_memory(teachers):
    model, params = jaxft.load(teachers[1], dtype="bfloat16")
    narrow = _narrowed(model, params)
    ids = np.random.default_rng(0).integers(1, 20, (3, 9))
    np.testing.assert_array_equal(*(forward.forward(model, x, {"input_ids": ids})["logits"] for x in (params, narrow)))
    kernels = {path[-1] for path, x in tree.flatten(narrow).items() if x.dtype == jnp.bfloat16}
    assert kernels == {"kernel"}
    wide = jaxft.load(teachers[1])
    assert _narrowed(*wide) is wide[1]


def test_a_student_in_float32_may_have_a_teacher_in_bfloat16(classifier, teachers, tiny_data, tmp_path):
    for dtype, own in (("bfloat16", "bfloat16"), (None, "float32")):
        distill = {"teacher": teachers[0], "teacher_dtype": dtype}
        run = make_run(configure(classifier, tiny_data, tmp_path / "run", distill=distill))
        assert (run.teachers[0].model.policy.dtype, run.model.policy.dtype) == (own, "float32")


def test_the_runs_of_several_seeds_are_found_by_a_pattern(tmp_path):
    """A run means its model/; other directories are models themselves."""
    for name in ("seed-1", "seed-0"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "config.yaml").touch()
        (tmp_path / name / "model/config.json").touch()
    (tmp_path / "seed-list.txt").touch()
    (tmp_path / "seeds[1]").mkdir()
    found = teacher_paths(str(tmp_path / "seed-*"))
    assert found == {str(tmp_path / f"seed-{i}"): str(tmp_path / f"seed-{i}/model") for i in (0, 1)}
    assert list(teacher_paths(["org/name", str(tmp_path / "seeds[1]")])) == ["org/name", str(tmp_path / "seeds[1]")]
    seed = str(tmp_path / "seed-0")
    with pytest.raises(UserError, match=rf"names one model twice \({re.escape(seed)} and {re.escape(seed)}/model/\)"):
        teacher_paths([seed, f"{seed}/model/"])
    (tmp_path / "seed-0/model/config.json").unlink()
    with pytest.raises(UserError, match=r"seed-0: the run has no model/ yet"):
        teacher_paths(str(tmp_path / "seed-*"))
    with pytest.raises(UserError, match=r"names org/name twice"):
        teacher_paths(["org/name", "org/name"])
    with pytest.raises(UserError, match=r"other-\*: no directory matches this pattern"):
        teacher_paths(str(tmp_path / "other-*"))


def test_models_in_memory_may_be_teachers(teachers, classifier, tiny_data, tmp_path):
    from jaxft.run.from_python import config_of

    config = config_of(None, {"distill": {"teacher": [jaxft.load(teachers[0]), teachers[1]]}})
    stored, named = config.distill.teacher
    assert named == teachers[1]
    assert json.loads((Path(stored) / "config.json").read_text())["num_hidden_layers"] == 1


def test_a_student_that_is_its_teacher_is_told(classifier, tiny_data, tmp_path):
    def notes(**model):
        options = {"model": model, "distill": {"teacher": str(classifier)}}
        return " ".join(make_run(configure(classifier, tiny_data, tmp_path / "run", **options)).notes)

    assert "is the model that the student starts from, with all layers" in notes()
    assert "starts from" not in notes(num_layers=1)


def test_a_teacher_that_keeps_capitals_is_told(classifier, tiny_data, tmp_path):
    """It has the student's vocabulary, but was trained on other tokens of the same texts."""
    teacher = shutil.copytree(classifier, tmp_path / "teacher")

    def notes():
        config = configure(
            classifier, tiny_data, tmp_path / "run", model={"num_layers": 1}, distill={"teacher": str(teacher)}
        )
        return " ".join(make_run(config).notes)

    assert "treats capitals" not in notes()
    settings = json.loads((teacher / "tokenizer_config.json").read_text())
    (teacher / "tokenizer_config.json").write_text(json.dumps(settings | {"do_lower_case": False}))
    assert f"{teacher} has the student's vocabulary, but its tokenizer treats capitals" in notes()
