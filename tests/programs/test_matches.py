"""Matches between layers in the train step of a run: any layout, any task, any family, and what the program does not do."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft
from jaxft.config import DistillConfig, MatchConfig
from jaxft.core import tree
from jaxft.losses import OutputPair
from jaxft.losses.matches import Texts
from jaxft.models.encoder.config import Policy
from jaxft.models.model import make_model
from jaxft.parallel import sharding
from jaxft.run.loss import run_loss
from jaxft.run.setup import Run, make_run
from jaxft.run.state import start_shapes
from jaxft.step.compilation import abstract_batches
from jaxft.step.distillation import with_teacher
from jaxft.step.matches import make_matches
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import MEANS, value_and_grad
from tests.support import tiny, zoo
from tests.support.every_task import KINDS
from tests.support.families import examples
from tests.support.layouts import batch_of
from tests.support.steps import assert_same, configure, gradients, rearranged

PAIR = OutputPair("identity", jnp.zeros((1, 1)), jnp.full((1, 1), 2.0), jnp.ones(1))
DEEP = {"num_hidden_layers": 4, "hidden_size": 30, "num_attention_heads": 3}
EVERY = [
    {"match": "hidden_mse", "layers": [[0, 0], [1, 2]], "projection": "linear", "weight": 0.5},
    {"match": "cos", "projection": "linear"},
    {"match": "pkd", "layers": "uniform", "projection": "linear"},
    {"match": "fsp", "layers": "every 2", "projection": "linear"},
    {"match": "nst", "layers": "last 2", "weight": 0.1},
    {"match": "attention_mse", "layers": "uniform"},
    {"match": "attention_mse_sum"},
    {"match": "attention_ce", "layers": [[1, 4]]},
    {"match": "attention_ce_mean"},
    {"match": "attention_probability_mse"},
    {"match": "query_relation", "heads": 6},
    {"match": "key_relation"},
    {"match": "value_relation", "heads": 2, "layers": [[2, 3]]},
]
SOME = [EVERY[i] for i in (0, 7, 10)]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A classifier with more and wider layers."""
    return tiny.write_model(tmp_path_factory.mktemp("teacher") / "model", labels=tiny.LABELS, seed=9, **DEEP)


def open_run(model, data, output, teacher, matches, /, **sections) -> Run:
    distill = {"teacher": str(teacher), "matches": matches, **sections.pop("distill", {})}
    return make_run(configure(model, data, output, distill=distill, **sections))


def test_gradients_do_not_depend_on_the_layout(classifier, teacher, tiny_data, tmp_path):
    run = open_run(classifier, tiny_data, tmp_path / "run", teacher, SOME)
    right = gradients(rearranged(run, "pad"))
    assert all(np.abs(grads["projections.1.kernel"]).max() > 1e-4 for _, grads in right)
    assert_same(rearranged(run, micro_batches=2, data=2, fsdp=2), right)


CHECKPOINTING = {"runtime": {"gradient_checkpointing": True, "unroll": 1, "distributed": "off"}}


@pytest.mark.slow
@pytest.mark.parametrize("sections", [{}, CHECKPOINTING], ids=["plain", "checkpointing"])
def test_gradients_of_every_match_do_not_depend_on_the_layout(classifier, teacher, tiny_data, tmp_path, sections):
    run = open_run(classifier, tiny_data, tmp_path / "run", teacher, EVERY, **sections)
    right = gradients(rearranged(run, "pad"))
    assert_same(rearranged(run), right)
    assert_same(rearranged(run, micro_batches=2, data=2, fsdp=4), right)
    assert_same(rearranged(run, "pad", micro_batches=5), right)


@pytest.mark.slow
def test_matches_with_two_passes_and_dropout_do_not_depend_on_devices(classifier, teacher, tiny_data, tmp_path):
    """R-Drop beside matches alone; masks depend on the shape of a batch, not on the devices."""
    options = {"regularization": {"r_drop": 1.0}, "distill": {"output_weight": 0}, "model": {"dropout": 0.1}}
    run = open_run(classifier, tiny_data, tmp_path / "run", teacher, SOME, **options)
    assert_same(rearranged(run, "pad", data=4, fsdp=2), gradients(rearranged(run, "pad")))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_other_tasks_do_not_depend_on_the_layout(kind, tmp_path):
    """On matches alone: every text counts as much as in the loss of the task."""
    student = tiny.write_model(tmp_path / "model", num_hidden_layers=1)
    model = {"path": str(student), **tiny.NO_DROPOUT}
    plain = make_run(KINDS[kind](student, tmp_path, tmp_path / "plain", model=model))
    config = tiny.CONFIG | {"num_hidden_layers": 2}
    labels = plain.task.labels
    names = {"id2label": {str(i): x for i, x in enumerate(labels)}} if labels else {}
    other = make_model(config | names, kind, "tiny")
    jaxft.save(other, tiny.random_params(other, 3), tmp_path / "teacher")
    tiny.write_tokenizer(tmp_path / "teacher")
    matches = [{"match": "hidden_mse"}, {"match": "attention_ce"}, {"match": "pkd"}]
    distill = {"teacher": str(tmp_path / "teacher"), "matches": matches, "output_weight": 0}
    run = make_run(KINDS[kind](student, tmp_path, tmp_path / "run", model=model, distill=distill))
    right = gradients(rearranged(run, "pad"))
    assert_same(rearranged(run), right)
    assert_same(rearranged(run, micro_batches=2, data=2, fsdp=2), right)


def assert_layouts_agree(family: str, matches: list[dict]) -> None:
    """The sum of matches of a random student with a random teacher, and its gradients, in packed and in padded rows."""
    kind = "text-classification"
    model = make_model(zoo.fixed(family, kind, 0), kind, "zoo", policy=Policy(unroll=1))
    c = model.encoder.config
    found = make_matches(DistillConfig("t", matches=[MatchConfig(**x) for x in matches]), c, c)
    assert found
    student, teacher = tiny.random_params(model), tiny.random_params(model, 1)

    def total(params, batch):
        ours, theirs = (
            model.encoder.apply(p["encoder"], batch, rates=model.override(dropout=0.0), outputs=names)
            for p, names in ((params, found.student_outputs), (teacher, found.teacher_outputs))
        )
        each = found.parts(params, ours, theirs, batch, jnp.where(batch["example"] >= 0, 1.0 + batch["example"], 0.0))
        return sum((m.config.weight * x for m, x in zip(found.matches, each, strict=True)), jnp.zeros(()))

    results = []
    for layout in ("pack", "pad"):
        value, grads = jax.jit(jax.value_and_grad(total))(student, batch_of(examples(model), layout))
        results.append((float(value), tree.unstack(jax.device_get(grads))))
    (value, grads), (right, expected) = results
    assert value == pytest.approx(right, rel=1e-5)
    largest = max(np.abs(g).max() for g in expected.values())
    assert largest > 1e-3
    for name, g in grads.items():
        assert np.abs(g - expected[name]).max() <= 2e-5 * largest, name


@pytest.mark.parametrize("family", zoo.families(("modernbert",)))
def test_packed_and_padded_rows_agree_in_every_family(family):
    assert_layouts_agree(family, [{"match": name} for name in ("hidden_mse", "attention_ce", "value_relation")])


def hlo(run: Run) -> str:
    """The compiled gradient of the loss of a run."""
    state, frozen = start_shapes(run)
    frozen = replace(frozen, teachers={x.key: sharding.shapes(run.mesh, x.params) for x in run.teachers})
    (batch,) = abstract_batches(run.sampler, run.prototype, sharding.batch_sharding(run.mesh)).values()
    step = partial(value_and_grad, loss_fn=run_loss(run))
    return sharding.lower(step, run.mesh, state, frozen, batch).compile().as_text()


def attention_arrays(text: str, heads: int) -> list[str]:
    """The shapes of the arrays of scores or probabilities for these heads that instructions write, with repetitions."""
    found = re.findall(r"= f32\[([\d,]+)\]\S* (?!parameter|get-tuple-element|bitcast)", text)
    dims = [x.split(",") for x in found]
    return sorted(",".join(x) for x in dims if len(x) >= 4 and x[-1] == x[-2] and str(heads) in x[:-2])


def test_no_scores_are_written_where_only_hidden_states_are_matched(tiny_data, tmp_path):
    """The program has as many arrays of attention as without matches, for the student and for the teacher."""
    student = tiny.write_model(tmp_path / "student", labels=tiny.LABELS)
    teacher = tiny.write_model(tmp_path / "teacher", labels=tiny.LABELS, **DEEP | {"num_attention_heads": 5})
    programs = {}
    for name, matches in {
        "none": [],
        "hidden": [{"match": "hidden_mse", "layers": "every 2", "projection": "linear"}],
        "attention": [{"match": "attention_mse_sum"}],
    }.items():
        programs[name] = hlo(open_run(student, tiny_data, tmp_path / name, teacher, matches))
    for heads in (3, 5):
        none, hidden, attention = (attention_arrays(programs[name], heads) for name in ("none", "hidden", "attention"))
        assert none
        assert hidden == none
        assert attention != none
        assert not any(shape.startswith("4,") for shape in attention)  # those of the teacher's last layer only


def test_a_projection_belongs_to_the_plan_and_not_to_the_model(classifier, teacher, tiny_data, tmp_path):
    """It is trained with its own learning rate, whatever the preset freezes; a rule of the user's comes first."""
    matches = [{"match": "hidden_mse", "projection": "linear", "learning_rate": 6e-3}, {"match": "pkd", "weight": 0}]
    matches.append({"match": "cos", "projection": "linear"})
    matches[1]["projection"] = "linear"  # a match without weight has none
    rules = [{"pattern": r"projections\.3", "learning_rate": 7.0}]
    for preset in ("head", "gradual", "layerwise_decay", "lora", "bias"):
        plan = {"preset": preset, "rules": rules, "unfreeze_every": 3}
        run = open_run(classifier, tiny_data, tmp_path / "run", teacher, matches, plan=plan)
        own = {name: x for name, x in run.plan.settings.items() if name.startswith("projections")}
        assert set(own) == {f"projections.{i}.{leaf}" for i in (1, 3) for leaf in ("kernel", "bias")}
        assert {(x.trainable, x.unfreeze) for x in own.values()} == {(True, 0)}
        assert {x.learning_rate for name, x in own.items() if ".1." in name} == {2.0}
        assert {x.learning_rate for name, x in own.items() if ".3." in name} == {7.0}
        assert own["projections.1.kernel"].weight_decay
        assert not own["projections.1.bias"].weight_decay
        if run.model.adapted:
            assert not any("projection" in name for name in run.model.adapted.saved)


def test_a_match_is_added_with_its_weight():
    """The losses of outputs, here 8 and 4, are multiplied by their own weight; evaluation has the task's loss."""
    model = make_model(tiny.CONFIG, "feature-extraction", "tiny")
    c, ids = model.encoder.config, jnp.asarray([[1, 1, 2, 0]])
    batch = {"segment_ids": ids, "first_token": jnp.asarray([[0, 2]])}
    outputs = {"hidden_states.2": jnp.ones((1, 4, c.hidden_size))}
    teacher = {"hidden_states.2": jnp.asarray([[2, 2, 4, 9]])[..., None] * outputs["hidden_states.2"]}
    task = SimpleNamespace(text_weights=lambda _: jnp.asarray([[2.0, 1.0]]), soft_pairs=lambda *_: [PAIR])

    parts = {}

    def total(*, key=0, **options):
        parts.clear()
        config = DistillConfig("t", alpha=0.25, temperature=1.0, **options)
        loss = with_teacher(
            lambda *_: ((jnp.asarray(8.0), jnp.asarray(3.0)), outputs),
            task,  # type: ignore[arg-type]
            lambda *_: teacher,
            config,
            1,
            make_matches(config, c, c),
        )
        found, outputs_of_all = loss(Parameters({}), batch, key, {})  # type: ignore[arg-type]
        parts.update({name: float(x) for name, x in outputs_of_all.items() if name.startswith(MEANS)})
        return tuple(map(float, found))

    match, twice = MatchConfig("hidden_mse", weight=2.0), MatchConfig("hidden_mse", weight=0.5)  # 2 * 1 + 1 * 9
    assert total() == (0.75 * 8 + 0.25 * 4, 3)
    assert total(matches=[match]) == (7 + 2 * 11, 3)
    assert total(matches=[match, twice], output_weight=0.5) == (3.5 + 2.5 * 11, 3)
    outputs_alone = {"means/distill/hard": 8, "means/distill/soft": 4}
    assert parts == {**outputs_alone, "means/distill/match_1_hidden_mse": 11, "means/distill/match_2_hidden_mse": 11}
    assert total(matches=[match], output_weight=0) == (2 * 11, 3)
    assert total(matches=[match], key=None) == (8, 3)
    assert not parts


def test_texts_without_weight_do_not_count():
    texts = Texts(jnp.ones((2, 3), jnp.int32), jnp.zeros((2, 1), jnp.int32), jnp.asarray([[1.0], [0.0]]))
    of_tokens = jnp.asarray([[1.0, 2, 3], [np.inf, np.nan, 1]])
    assert float(texts.mean(of_tokens)) == 2
    assert float(replace(texts, weights=texts.weights * 0).mean(of_tokens)) == 0
