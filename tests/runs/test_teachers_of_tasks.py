"""The outputs that are kept of a teacher of each task are those that it has in a batch."""

import json
import random
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import jaxft
from jaxft.run.setup import make_run
from jaxft.step.cached_teacher import cached_teacher, stored_outputs
from jaxft.step.distillation import live_teacher
from jaxft.teacher_cache import layout
from jaxft.teacher_cache.choice import arrays_of, choose, with_outputs
from jaxft.teacher_cache.fill import taught
from jaxft.teacher_cache.forward import outputs, texts_of
from jaxft.train import train
from tests.support import choices, questions, tagged, tiny
from tests.support.resuming import MODEL


@pytest.fixture
def configured(tiny_model, tmp_path):
    """A function: the config of a run of a task whose teacher is the student as it begins."""

    def questions_config(output, **sections):
        for name, count in (("train", 20), ("dev", 4)):
            questions.write(tmp_path / f"{name}.json", questions.make(count, seed=0, unanswerable=0.3))
        return questions.configure(tiny_model, tmp_path, output, **sections)

    def choices_config(output, **sections):
        for name, count in (("train", 20), ("dev", 4)):
            rows = [choices.row(random.Random(seed)) for seed in range(count)]
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return choices.configure(tiny_model, tmp_path, output, **sections)

    def tags_config(output, **sections):
        return tagged.configure(tiny_model, tagged.write_files(tmp_path), output, **sections)

    makers = {"questions": questions_config, "choices": choices_config, "tags": tags_config}

    def configure(task, **sections):
        first = make_run(makers[task](tmp_path / "none"))
        model = first.model
        jaxft.save(model, tiny.random_params(model, seed=5), tmp_path / "teacher")
        distill = {"teacher": str(tmp_path / "teacher"), "cache_dir": str(tmp_path / "cache")}
        rates = {"path": str(tiny_model), **tiny.NO_DROPOUT}
        return makers[task](tmp_path / "run", **{"distill": distill, "model": rates, **sections})

    return configure


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(layout, "TOKENS", 300)


def compared(run, examples, found, expected):
    """Compare outputs for the first batch of a run, where it has examples."""
    batch = {name: x[0] for name, x in run.sampler.epoch_batches(0).batch(examples, 0).items()}
    params = SimpleNamespace(teachers={"teacher": run.teachers[0].params})
    got, right = (
        {k: np.asarray(x) for k, x in jax.jit(lambda b, f=f: f(params, b))(batch).items()} for f in (found, expected)
    )
    assert got.keys() == right.keys()
    slots = np.repeat(batch["weights"] > 0, examples.group, axis=1)
    tokens = batch["segment_ids"] > 0
    for name, values in right.items():
        assert got[name].shape == values.shape
        if name.startswith("hidden_states"):
            np.testing.assert_allclose(got[name][tokens], values[tokens], rtol=1e-2, atol=1e-2)
            continue
        used = tokens if values.shape[1] == tokens.shape[1] else slots
        assert np.ptp(values[used]) > 0.01
        np.testing.assert_allclose(got[name][used], values[used], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", [*(pytest.param(x, marks=pytest.mark.slow) for x in ("questions", "choices")), "tags"])
def test_outputs_are_those_of_the_teacher_in_a_batch(configured, task):
    run = make_run(configured(task))
    stored = choose(run).stored
    examples, [line] = taught(run, stored, run.data["train"].examples, lambda _: None)
    assert " took " in line
    compared(run, examples, cached_teacher(stored["teacher"]), live_teacher(run.teachers[0].model))


def test_hidden_states_of_some_layers_are_kept_in_bfloat16(configured):
    run = make_run(configured("tags"))
    model, params = run.teachers[0].model, run.teachers[0].params
    stored = stored_outputs(model, params, 1, run.mesh, outputs=("hidden_states.0", "hidden_states.2"))
    texts = texts_of(run.data["train"].examples)
    arrays = arrays_of(stored, texts)
    assert arrays["hidden_states.2"].dtype.itemsize == 2
    parts = outputs(model, params, run.mesh, texts, layout.fixed_batches(texts.lengths), stored, lambda _: None)
    values = [part for part, _ in parts]
    assert len(values) > 1
    joined = {name: np.concatenate([part[name] for part in values]) for name in arrays}
    assert {name: (x.shape, x.dtype) for name, x in joined.items()} == {n: (x.shape, x.dtype) for n, x in arrays.items()}
    examples = with_outputs(run.data["train"].examples, stored, joined)
    compared(run, examples, cached_teacher(stored), live_teacher(model, ("hidden_states.0", "hidden_states.2")))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["questions", "choices", "tags"])
def test_a_run_that_finds_the_outputs_ends_with_the_same_bits(configured, tmp_path, task):
    found = []
    for _ in range(2):
        train(configured(task, data={"validation": None}))
        found.append((tmp_path / "run" / MODEL).read_bytes())
        (tmp_path / "run").rename(tmp_path / f"run-{len(found)}")
    assert found[0] == found[1]
