"""`distill.unlabelled`: training data without labels teaches what labelled data does whose labels count for nothing."""

import csv
import json
import random

import jax
import numpy as np
import pytest

from jaxft.config.cli import run_main
from jaxft.core import random_keys
from jaxft.run.loss import run_loss
from jaxft.run.setup import make_run
from jaxft.step.distillation import TEACHER
from jaxft.step.parameters import Parameters
from jaxft.train import main, train
from tests.support import choices, labelled_texts, questions, read_jsonl, tagged, tiny


def teacher_loss(config) -> tuple[float, float]:
    """(sum, weight) of the training loss of a run's first batch before its first step."""
    run = make_run(config)
    batch = {name: x[0] for name, x in run.sampler.epoch_batches(0).batch(run.data["train"].examples, 0).items()}
    assert config.distill.unlabelled == (not {"labels", "start_positions"} & set(batch)) or run.task.tags_words
    params = Parameters(run.params, teachers={TEACHER: run.teachers[0].params})
    (total, weight), _ = jax.jit(run_loss(run))(params, batch, random_keys.root_key(0), {})
    return float(total), float(weight)


def same_without_labels(configure, model, teacher, **options) -> None:
    """Configs of a task on data with labels and without: their losses with the teacher alone are the same."""
    sections = {"model": tiny.NO_DROPOUT, **options}
    labelled = teacher_loss(configure("labelled", **sections, distill={"teacher": str(teacher), "alpha": 1}))
    unlabelled = teacher_loss(configure("unlabelled", **sections, distill={"teacher": str(teacher), "unlabelled": True}))
    assert unlabelled == pytest.approx(labelled, rel=1e-6)
    assert labelled[0] > 0


def without(path, target, columns):
    with open(path, newline="", encoding="utf-8") as file, open(target, "w", newline="", encoding="utf-8") as out:
        rows = list(csv.DictReader(file))
        writer = csv.DictWriter(out, [name for name in rows[0] if name not in columns], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return str(target)


@pytest.fixture(scope="module")
def classifier_teacher(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("teacher") / "model", labels=tiny.LABELS, seed=9)


def test_a_run_without_labels_is_the_one_with_the_teacher_alone(classifier, classifier_teacher, tiny_data, tmp_path):
    texts = without(tiny_data / "train.csv", tmp_path / "texts.csv", {"label"})
    rows = {}
    for name, data, own in (("labelled", {}, {"alpha": 1}), ("texts", {"train": texts}, {"unlabelled": True})):
        sections = {"model": tiny.NO_DROPOUT, "data": data, "train": {"max_steps": 3}, "log": {"every": 1}}
        config = tiny.run_config(
            classifier, tiny_data, tmp_path / name, **sections, distill={"teacher": str(classifier_teacher), **own}
        )
        rows[name] = train(config), [row["loss"] for row in read_jsonl(tmp_path / name / "metrics.jsonl") if "loss" in row]
    assert len(rows["texts"][1]) == 3
    np.testing.assert_allclose(rows["texts"][1], rows["labelled"][1], rtol=1e-5)
    assert rows["texts"][0]["eval/loss"] == pytest.approx(rows["labelled"][0]["eval/loss"], rel=1e-4)
    assert "labels" not in json.loads((tmp_path / "texts" / "figures.json").read_text())["splits"]["train"]


def test_tags_need_no_tags(tmp_path):
    folder = tagged.write_files(tmp_path)
    student, teacher = (
        tiny.write_model(tmp_path / name, kind="token-classification", labels=tagged.LABELS, seed=seed)
        for name, seed in (("student", 0), ("teacher", 5))
    )
    words = [line.split(" ")[0] for line in (folder / "train.conll").read_text().splitlines()]
    (tmp_path / "words.conll").write_text("\n".join(words) + "\n")

    def configure(name, **sections):
        data = {"train": str(tmp_path / "words.conll")} if name == "unlabelled" else {}
        return tagged.configure(student, folder, tmp_path / name, **sections, data=data)

    for pieces in ("first", "all"):
        same_without_labels(configure, student, teacher, task={"label_pieces": pieces})


@pytest.mark.slow
def test_questions_need_no_answers(tmp_path):
    rows = questions.make(24, 0)
    questions.write(tmp_path / "train.json", rows)
    questions.write(tmp_path / "dev.json", rows)
    bare = [{"id": x["id"], "question": x["question"], "context": x["context"]} for x in rows]
    (tmp_path / "bare.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in bare))
    student, teacher = (questions.write_model(tmp_path / name, seed=seed) for name, seed in (("s", 0), ("t", 5)))

    def configure(name, **sections):
        data = {"train": str(tmp_path / "bare.jsonl")} if name == "unlabelled" else {}
        return questions.configure(student, tmp_path, tmp_path / name, **sections, data=data)

    same_without_labels(configure, student, teacher)


@pytest.mark.slow
@pytest.mark.parametrize("base", [labelled_texts.MULTI, labelled_texts.TARGETS], ids=["several labels", "numbers"])
def test_several_labels_and_numbers_need_no_labels(base, tmp_path):
    labelled_texts.write_files(tmp_path)
    problem = base["task"]["problem"]
    names = ["calm", "joy", "storm"] if problem == "multi_label" else ["length", "songs"]
    kind = {"multi_label": "multi_label_classification"}.get(problem, problem)
    student, teacher = (
        tiny.write_model(tmp_path / name, labels=names, seed=seed, problem_type=kind)
        for name, seed in (("student", 0), ("teacher", 5))
    )
    texts = without(tmp_path / "train.csv", tmp_path / "texts.csv", {"tags", "length", "songs"})

    def configure(name, **sections):
        data = {"train": texts} if name == "unlabelled" else {}
        return labelled_texts.configure(student, tmp_path, tmp_path / name, base, **sections, data=data)

    same_without_labels(configure, student, teacher)


@pytest.mark.slow
def test_choices_need_no_right_one(tmp_path):
    rng = random.Random(0)
    rows = [choices.row(rng) for _ in range(20)]
    for name, keep in (("train", True), ("dev", True), ("bare", False)):
        lines = [json.dumps(x if keep else {k: v for k, v in x.items() if k != "label"}) for x in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    student, teacher = (
        tiny.write_model(tmp_path / name, kind="multiple-choice", seed=seed)
        for name, seed in (("student", 0), ("teacher", 5))
    )

    def configure(name, **sections):
        data = {"train": str(tmp_path / "bare.jsonl")} if name == "unlabelled" else {}
        return choices.configure(student, tmp_path, tmp_path / name, **sections, data=data)

    same_without_labels(configure, student, teacher)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--distill.teacher=null"], "distill.unlabelled needs distill.teacher"),
        (["--train.label_smoothing=0.1"], "train.label_smoothing needs the labels of data.train"),
        (["--distill.probability_shift=true"], "distill.probability_shift needs the labels of data.train"),
        (["--data.validation_share=0.2", "--data.validation=null"], "data.validation_share needs the labels"),
        (["--data.clean.conflicts=drop"], "data.clean.conflicts drop needs the labels"),
        (["--task.labels=[b, a]"], "task.labels is ['b', 'a'], but the teacher has"),
        (["--task.name=fill-mask"], "fill-mask needs no labels"),
    ],
)
def test_what_needs_labels_is_refused(options, message, classifier, classifier_teacher, tiny_data, tmp_path, capsys):
    given = [f"--model.path={classifier}", f"--data.train={tiny_data / 'train.csv'}", f"--output_dir={tmp_path / 'run'}"]
    given += [
        f"--data.validation={tiny_data / 'dev.csv'}",
        "--data.max_length=32",
        f"--distill.teacher={classifier_teacher}",
    ]
    with pytest.raises(SystemExit) as ended:
        run_main(main, [*given, "--distill.unlabelled=true", *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
