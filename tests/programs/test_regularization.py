"""Penalties, mixout, R-Drop, moving average and NEFTune follow their papers; when off, they do not change the program."""

import shutil
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft import optim
from jaxft.config import OptimConfig, PlanConfig, RegularizationConfig, RuleConfig
from jaxft.core import random_keys, tree
from jaxft.core.errors import UserError
from jaxft.models import forward
from jaxft.models.model import make_model
from jaxft.models.vocab_resize import split_rows
from jaxft.models.weights.tensor_files import open_weights
from jaxft.parallel import sharding
from jaxft.param_plan import make_plan
from jaxft.run.loss import make_loss, run_loss
from jaxft.run.setup import make_run
from jaxft.step.compilation import abstract_batches
from jaxft.step.parameters import Parameters
from jaxft.step.r_drop import with_r_drop
from jaxft.step.regularization import Regularization, neftune
from jaxft.step.train_step import init_state, train_step
from jaxft.tasks.multi_label import MultiLabel
from jaxft.tasks.question_answering import QuestionAnswering
from jaxft.tasks.regression import Regression
from jaxft.tasks.text_classification import TextClassification
from jaxft.tasks.token_classification import TokenClassification
from jaxft.train import train
from jaxft.training.early_stopping import EvaluationState, next_plateau
from jaxft.training.loop import Loop
from tests.support import tiny, zoo
from tests.support.parameters import GRADIENTS, LAYERS, PARAMS
from tests.support.resuming import MODEL, copy_run_at, journal

START = GRADIENTS[0]  # a tree of the same shapes


def regularization(rules=(), **options) -> Regularization:
    plan = make_plan(PlanConfig(rules=[RuleConfig(**rule) for rule in rules]), PARAMS, LAYERS)
    return Regularization(RegularizationConfig(**options), plan)


def test_penalties_are_those_of_their_formulas():
    options = {"l1": 0.01, "l2": 0.2, "l2_sp": 0.5, "l2_sp_head": 0.7}
    rules = [{"pattern": r"layer\.1\.dense\.kernel", "weight_decay": False}]
    expected = dict.fromkeys(options, 0.0)
    starts = tree.unstack(START)
    for name, w in tree.unstack(jax.tree.map(np.asarray, PARAMS)).items():
        if not name.endswith(("kernel", "embedding")) or ".1." in name:
            continue
        head = name.startswith("heads")
        expected["l1"] += np.abs(w).sum()
        expected["l2"] += np.square(w).sum() / 2
        expected["l2_sp_head"] += head * np.square(w).sum() / 2
        expected["l2_sp"] += (not head) * np.square(w - np.asarray(starts[name])).sum() / 2
    for name, strength in options.items():
        found = regularization(rules, **{name: strength}).penalty(PARAMS, START)
        assert float(found) == pytest.approx(strength * expected[name], rel=1e-5)
    together = regularization(rules, **options).penalty(PARAMS, START)
    assert float(together) == pytest.approx(sum(x * expected[name] for name, x in options.items()), rel=1e-5)


def test_mixout_is_the_papers_function():
    """The paper's function (github.com/bloodwass/mixout): (mask t + (1 - mask) w - p t) / (1 - p)."""
    p, own = 0.25, regularization(mixout=0.25)
    found = [tree.flatten(own.mixed(PARAMS, START, jax.random.key(seed))) for seed in range(2)]
    for path, w in tree.flatten(PARAMS).items():
        t = tree.flatten(START)[path]
        if path[0] == "heads" or path[-1] != "kernel":
            np.testing.assert_array_equal(found[0][path], w)
            continue
        x = np.asarray(found[0][path])
        mask = x == np.asarray(t)
        assert 0.15 < mask.mean() < 0.35
        assert np.any(x != np.asarray(found[1][path]))
        np.testing.assert_allclose(x, (mask * t + (1 - mask) * w - p * t) / (1 - p), rtol=1e-4, atol=1e-5)


def test_the_moving_average_is_that_of_its_formula():
    own, average = regularization(ema=0.3), PARAMS
    expected = tree.unstack(PARAMS)
    for step, params in enumerate(GRADIENTS):
        average = own.averaged(average, params, jnp.asarray(step, jnp.int32))
        decay = min(0.3, (1 + step) / (10 + step))
        expected = {name: decay * expected[name] + (1 - decay) * x for name, x in tree.unstack(params).items()}
    for name, x in tree.unstack(average).items():
        np.testing.assert_allclose(x, expected[name], rtol=1e-5, atol=1e-6)


def test_neftune_noise_is_scaled_by_the_examples_own_length():
    """Two examples of 3 and 9 tokens in a row, and one of 16 in another."""
    segments = np.zeros((2, 16), np.int32)
    segments[0, :3], segments[0, 3:12], segments[1] = 1, 2, 1
    rng = np.random.default_rng(0)
    words = rng.normal(size=(2, 16, 64)).astype(np.float32)
    batch = {"segment_ids": segments, "first_token": np.asarray([[0, 3], [0, 0]])}
    batch = {name: jnp.asarray(x, jnp.int32) for name, x in batch.items()}
    noise = np.asarray(neftune(jnp.asarray(words), batch, jax.random.key(0), alpha=5.0)) - words
    for rows, length in (((0, slice(0, 3)), 3), ((0, slice(3, 12)), 9), ((1, slice(0, 16)), 16)):
        uniform = noise[rows] * np.sqrt(length * 64) / 5.0
        assert 0.9 < np.abs(uniform).max() <= 1.0001
        assert np.square(uniform).mean() == pytest.approx(1 / 3, rel=0.2)


@pytest.mark.parametrize("family", zoo.families(("bert",)))
def test_neftune_noise_of_size_zero_changes_nothing(family):
    """Also with new words, whose rows are a leaf of their own. Bit for bit when each operation runs alone: two programs may
    be fused, and so rounded, differently."""
    kind = "text-classification"
    config = zoo.fixed(family, kind)
    model = make_model(config, kind, "zoo")
    model, params = split_rows(model, tiny.random_params(model), 5)
    ids = np.arange(config["vocab_size"] - 8, config["vocab_size"])[None]
    batch = forward.batch_of(model, {"input_ids": ids})
    batch |= {"labels": jnp.zeros((1, 1), jnp.int32), "weights": jnp.ones((1, 1), jnp.float32)}
    task = TextClassification(tuple(map(str, range(len(model.labels)))))

    def logits(alpha: float) -> jax.Array:
        loss = make_loss(model, task, [partial(neftune, alpha=alpha)] if alpha else [])
        with jax.disable_jit():
            return loss(Parameters(params), batch, random_keys.root_key(0), {})[1]["logits"]

    np.testing.assert_array_equal(logits(1e-30), logits(0.0))
    assert np.any(np.asarray(logits(5.0) != logits(0.0)))


SHAPE = (2, 3)
TASKS = {
    "text classification": (TextClassification(("a", "b", "c", "d")), (*SHAPE, 4), {"weights": SHAPE}, "softmax"),
    "token classification": (TokenClassification(("a", "b", "c", "d")), (*SHAPE, 4), {"labels": SHAPE}, "softmax"),
    "multi-label": (MultiLabel(("a", "b", "c", "d"), 0.5), (*SHAPE, 4), {"weights": SHAPE}, "sigmoid"),
    "regression": (Regression(("a", "b", "c", "d")), (*SHAPE, 4), {"weights": SHAPE}, "square"),
}


@pytest.mark.parametrize("name", TASKS)
def test_r_drop_is_the_authors_formula(name):
    """The formula (github.com/dropreg/R-Drop) and the gradients of both passes, computed by torch."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    task, shape, columns, kind = TASKS[name]
    rng = np.random.default_rng(0)
    p, q = rng.normal(0, 2, (2, *shape)).astype(np.float32)
    batch = {column: jnp.ones(size, jnp.float32 if column == "weights" else jnp.int32) for column, size in columns.items()}

    def apart(p, q):
        passes = iter([(p, 1.5), (q, 2.5)])

        def loss_fn(params, batch, key, hyper):
            logits, loss = next(passes)
            return (jnp.asarray(loss), jnp.asarray(6.0)), {"logits": logits}

        (loss, weight), outputs = with_r_drop(loss_fn, task, 3.0)(Parameters({}), batch, jax.random.key(0), {})
        assert (float(weight), outputs["logits"] is p) == (6.0, True)
        return loss - 2.0  # the mean of both

    x, y = (torch.tensor(v, requires_grad=True) for v in (p, q))
    if kind == "softmax":
        logs = [v.log_softmax(-1) for v in (x, y)]
        both = sum(functional.kl_div(a, b, log_target=True, reduction="sum") for a, b in (logs, logs[::-1]))
    elif kind == "sigmoid":
        logs = [torch.stack([functional.logsigmoid(v), functional.logsigmoid(-v)]) for v in (x, y)]
        both = sum(functional.kl_div(a, b, log_target=True, reduction="sum") for a, b in (logs, logs[::-1])) / 4
    else:
        both = 2 * (x - y).square().sum() / 4
    expected = 3.0 * both / 2
    expected.backward()
    assert float(apart(jnp.asarray(p), jnp.asarray(q))) == pytest.approx(expected.item(), rel=1e-4)
    gradients = jax.grad(apart, (0, 1))(jnp.asarray(p), jnp.asarray(q))
    for ours, theirs in zip(gradients, (x, y), strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_the_passes_of_r_drop_have_different_keys():
    task, shape, columns, _ = TASKS["text classification"]
    batch = {column: jnp.ones(size, jnp.float32 if column == "weights" else jnp.int32) for column, size in columns.items()}
    keys = []

    def loss_fn(params, batch, key, hyper):
        keys.append(tuple(np.asarray(jax.random.key_data(key)).tolist()))
        return (jnp.float32(1), jnp.float32(6)), {"logits": jnp.zeros(shape)}

    key = random_keys.root_key(0)
    with_r_drop(loss_fn, task, 3.0)(Parameters({}), batch, key, {})
    assert keys[0] == tuple(np.asarray(jax.random.key_data(key)).tolist())  # the first is the plain loss's
    assert len(set(keys)) == 2


def test_r_drop_of_answers_is_over_each_windows_own_tokens():
    """Two windows in a row and an empty slot: equal passes have loss 0, others do not, and gradients are finite."""
    segments = jnp.asarray([[1, 1, 1, 2, 2, 0]], jnp.int32)
    batch = {"segment_ids": segments, "first_token": jnp.asarray([[0, 3, 0]], jnp.int32)}
    batch |= {"weights": jnp.asarray([[1.0, 1.0, 0.0]]), "start_positions": jnp.ones((1, 3), jnp.int32)}
    p, q = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1, 6)), jnp.float32)

    def apart(p, q):
        passes = iter([p, q])

        def loss_fn(params, batch, key, hyper):
            logits = next(passes)
            return (jnp.zeros(()), jnp.ones(())), {"start_logits": logits, "end_logits": logits}

        return with_r_drop(loss_fn, QuestionAnswering(), 1.0)(Parameters({}), batch, jax.random.key(0), {})[0][0]

    def divergence(a, b):
        a, b = jax.nn.log_softmax(a), jax.nn.log_softmax(b)
        return float(((jnp.exp(a) - jnp.exp(b)) * (a - b)).sum() / 2)

    expected = sum(divergence(p[0, part], q[0, part]) for part in (slice(0, 3), slice(3, 5)))
    assert float(apart(p, q)) == pytest.approx(expected, rel=1e-4)
    assert float(apart(p, p)) == 0.0
    for gradient in jax.grad(apart, (0, 1))(p, q):
        assert np.isfinite(gradient).all()
        assert float(gradient[0, 5]) == 0.0
        assert np.abs(gradient).max() > 0.01


def configure(model, data, output, /, **sections):
    sections["model"] = {"path": str(model), **sections.get("model", {})}
    return tiny.run_config(model, data, output, **sections)


@pytest.fixture(scope="module")
def run(tiny_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    model = tiny.write_model(folder / "model", labels=tiny.LABELS, num_hidden_layers=1)
    return make_run(configure(model, tiny_data, folder / "run"))


def program(run, step=train_step, **options) -> str:
    """The train step as text."""
    trainable, frozen = run.plan.split(run.model.abstract())
    optimizer, hyper = optim.make_optimizer(run.config.optim, run.plan, 10), optim.hyperparameters(run.config.optim)
    state = jax.eval_shape(lambda p: init_state(p, optimizer, random_keys.root_key(0), hyper), trainable)
    batches = abstract_batches(run.sampler, run.data["train"].examples, sharding.batch_sharding(run.mesh))
    function = partial(step, optimizer=optimizer, **options)
    return str(jax.make_jaxpr(function)(state, Parameters(frozen), next(iter(batches.values()))))


def test_each_option_changes_the_step_and_without_any_it_is_plain(run):
    plain = program(run, loss_fn=make_loss(run.model, run.task))
    assert program(run, loss_fn=run_loss(run), regularization=run.regularization) == plain
    for name, value in {"l1": 1.0, "l2": 1.0, "l2_sp_head": 1.0, "r_drop": 1.0, "neftune": 5.0}.items():
        changed = replace(run, config=replace(run.config, regularization=RegularizationConfig(**{name: value})))
        assert program(changed, loss_fn=run_loss(changed), regularization=changed.regularization) != plain, name


EVERYTHING = {
    "model": tiny.NO_DROPOUT,
    "regularization": {"ema": 0.9, "l2_sp": 0.1, "mixout": 0.2, "r_drop": 0.5, "neftune": 5.0},
    "optim": {"learning_rate": 3e-3, "schedule": "plateau", "warmup": 0, "plateau_patience": 0},
    "train": {"epochs": 1, "batch_size": 16, "min_delta": 9.0},
    "eval": {"every": 2, "metric": "accuracy"},
    "checkpoint": {"every": 3, "keep": 9, "select": "last"},
    "log": {"every": 1, "progress": False},
}


@pytest.mark.slow
def test_a_run_with_everything_resumes_exactly(tiny_data, tmp_path):
    """Its start parameters come from the run, even if the model's directory has changed."""
    model = tiny.write_model(tmp_path / "model", labels=tiny.LABELS)
    train(configure(model, tiny_data, tmp_path / "whole", **EVERYTHING))
    copy_run_at(3, tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(model)
    tiny.write_model(model, labels=tiny.LABELS, seed=5)
    config = configure(model, tiny_data, tmp_path / "again", **EVERYTHING)
    train(config)
    assert (tmp_path / "again" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()
    expected = journal(tmp_path / "whole")
    assert journal(tmp_path / "again") == expected

    # Evaluations after steps 2, 4, 6 and 7: all but the first are bad, and each halves the rate of the steps that follow.
    rates = [row["learning_rate"] for row in expected if "learning_rate" in row]
    np.testing.assert_allclose(rates, 3e-3 * np.asarray([1, 1, 1, 1, 0.5, 0.5, 0.25]), rtol=1e-6)

    # What is exported and evaluated is the average, not the parameters of the last step.
    trainer = Loop(make_run(config), tmp_path / "again")
    average, last = trainer.state.average, trainer.state.params
    scores = trainer.scores("validation")
    trainer.close()
    exported, _ = open_weights(tmp_path / "again/model")
    name = "classifier.weight"
    np.testing.assert_array_equal(exported[name].read(), np.asarray(average["heads"]["main"]["classifier"]["kernel"]).T)
    assert not np.array_equal(exported[name].read(), np.asarray(last["heads"]["main"]["classifier"]["kernel"]).T)
    final = expected[-1]
    assert final["eval/loss"] == pytest.approx(scores["loss"], rel=1e-5)


def test_plateau_counts_as_torch_does():
    torch = pytest.importorskip("torch")
    config = OptimConfig(schedule="plateau", plateau_factor=0.3, plateau_patience=2)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.3, patience=2, threshold=0.0, threshold_mode="abs", eps=0.0
    )
    progress, best, rates = EvaluationState(), None, []
    for score in np.random.default_rng(0).integers(0, 50, 60).tolist():
        better = best is None or score < best
        best = score if better else best
        plateau, bad = next_plateau(config, progress, better)
        progress = EvaluationState(plateau=plateau, plateau_bad=bad)
        theirs.step(score)
        rates.append((plateau, optimizer.param_groups[0]["lr"]))
    np.testing.assert_allclose(*np.transpose(rates), rtol=1e-6)
    assert len(set(rates)) > 5
    assert next_plateau(OptimConfig(), EvaluationState(), False) == (1.0, 0)


def test_a_rules_plateau_needs_the_runs(run):
    first = next(iter(run.plan.settings))
    plan = replace(run.plan, settings={first: replace(run.plan.settings[first], schedule="plateau")})
    with pytest.raises(UserError, match=r"only if optim\.schedule is plateau"):
        optim.check_schedules(OptimConfig(), plan)
