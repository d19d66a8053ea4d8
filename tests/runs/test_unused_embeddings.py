"""Embeddings of words that the training data lacks are not trained, and a run ends as if they were."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxft import export, optim
from jaxft.config import OptimConfig, PlanConfig
from jaxft.core import tree
from jaxft.models.weights.tensor_files import open_weights
from jaxft.models.weights.tensor_names import WORDS
from jaxft.param_plan import make_plan
from jaxft.run.setup import make_run
from jaxft.run.state import fresh_state
from jaxft.step import unused_embeddings
from jaxft.step.parameters import Parameters
from jaxft.step.unused_embeddings import embed_words, join_unused, split_unused
from jaxft.train import train
from tests.support import tiny
from tests.support.resuming import MODEL, assert_journals_close, assert_resume_is_exact, journal

SIZE = 2_000  # of a vocabulary of which the tokenizer knows 22 words
TABLE = "embeddings.word_embeddings.weight"
# Without this epsilon Adam makes rounding large where a word's gradient is tiny.
DECAY = {"optim": {"epsilon": 1e-5, "learning_rate": 3e-3, "weight_decay": 8.0}, "checkpoint": {"select": "last"}}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A tiny model with a large vocabulary."""
    return tiny.write_model(tmp_path_factory.mktemp("large") / "model", vocab_size=SIZE)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Training data without "sun", which validation data has."""
    folder = tmp_path_factory.mktemp("data")
    tiny.write_rows(folder / "dev.csv", 30, seed=1)
    path = tiny.write_rows(folder / "train.csv", 100)
    path.write_text(path.read_text().replace("sun", "stone"))
    assert "sun" in (folder / "dev.csv").read_text()
    return folder


def configure(model, data, output, skip=True, /, **sections):
    sections["model"] = {"path": str(model), **tiny.NO_DROPOUT}
    runtime = {"distributed": "off", "unroll": 1, "skip_unused_words": skip}
    return tiny.run_config(model, data, output, **sections, runtime=runtime)


def tensors(directory):
    return {name: x.read() for name, x in open_weights(directory)[0].items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "sections",
    [
        {"regularization": {"ema": 0.9}},
        {"plan": {"preset": "gradual", "unfreeze_every": 3}, "regularization": {"neftune": 5.0}},
        {"mesh": {"data": 4, "fsdp": 2}, "train": {"epochs": 2, "batch_size": 16, "micro_batches": 2}},
        {"train": {"epochs": 2, "batch_size": 16, "dtype": "bfloat16"}, "data": {"layout": "bucket"}},
        "augmentation",
        "consistency",
    ],
    ids=["average", "stages", "devices", "bfloat16", "augmentation", "consistency"],
)
def test_a_run_ends_as_if_all_words_were_trained(large, data, tmp_path, sections, monkeypatch):
    if isinstance(sections, str):
        monkeypatch.setattr(unused_embeddings, "_ROWS", 1)  # no other words fill the table
        sections = with_sun(sections, tmp_path)
    found, journals = [], []
    for name, skip in (("used", True), ("all", False)):
        train(configure(large, data, tmp_path / name, skip, **DECAY, **sections))
        found.append(tensors(tmp_path / name / "model"))
        journals.append(journal(tmp_path / name))
    used, every = found
    assert used.keys() == every.keys()
    start, end = tensors(large)[TABLE], every[f"bert.{TABLE}"]
    assert np.abs(end[22:] / start[22:]).max() < 0.95  # decay has an effect
    for name, x in every.items():
        if not name.endswith("key.bias"):  # its gradient is zero but for rounding, which Adam makes large
            assert used[name] == pytest.approx(x, rel=2e-5, abs=2e-6), name
    assert_journals_close(*journals, rel=1e-5)


def test_only_rows_of_used_words_are_trained(large, data, tmp_path, capsys):
    config = configure(large, data, tmp_path / "run")
    run = make_run(config)
    state, frozen = fresh_state(run)
    for params in (state.params, *(x.mu for x in jax.tree.leaves(state.opt_state, is_leaf=is_adam) if is_adam(x))):
        assert tree.unstack(params)[WORDS].shape == (512, tiny.CONFIG["hidden_size"])
    assert frozen.unused_words["embedding"].shape == (SIZE, tiny.CONFIG["hidden_size"])
    train(config)
    assert (
        f"words: 511 of {SIZE:,} rows are trained; the other words do not occur in the training data"
        in capsys.readouterr().err
    )
    export.main([str(tmp_path / "run"), "--output", str(tmp_path / "again")])
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "run" / MODEL).read_bytes()


def is_adam(x):
    return isinstance(x, optax.ScaleByAdamState)


def with_sun(method, folder):
    """Sections that bring a word into the training data: by augmentation, or in texts without labels."""
    if method == "consistency":
        texts = tiny.write_rows(folder / "texts.csv", 60, seed=3)
        assert "sun" in texts.read_text()
        return {"augment": {"steps": [{"step": "swap"}], "share": 0}, "unlabelled": {"data": str(texts), "ratio": 2}}
    (folder / "synonyms.tsv").write_text("stone\tsun\n")
    return {"augment": {"steps": [{"step": "replace", "file": str(folder / "synonyms.tsv"), "rate": 0.3}]}}


@pytest.mark.parametrize("method", ["augmentation", "consistency"])
def test_words_that_only_the_examples_of_epochs_have_are_trained(large, data, tmp_path, monkeypatch, method):
    monkeypatch.setattr(unused_embeddings, "_ROWS", 1)  # no other words fill the table
    sections = with_sun(method, tmp_path)
    config = configure(large, data, tmp_path / "run", train={"epochs": 3, "batch_size": 16}, **sections)
    run = make_run(config)
    (sun,) = run.tokenizer("sun", add_special_tokens=False)["input_ids"]
    assert sun not in run.data["train"].examples.tokens["input_ids"]
    epochs = [run.epochs(n)[0].tokens["input_ids"] for n in range(3)]
    assert all(sun in ids for ids in epochs)
    assert run.used_words.tolist() == np.unique(np.concatenate(epochs)).tolist()


def test_a_resumed_run_keeps_the_words_that_it_recorded(large, data, tmp_path):
    config = configure(large, data, tmp_path / "run")
    train(config)
    kept = make_run(replace(config, runtime=replace(config.runtime, skip_unused_words=False)))
    assert kept.used_words.tolist() == make_run(config).used_words.tolist()


def test_resuming_is_exact(large, data, tmp_path):
    assert_resume_is_exact(large, data, tmp_path, MODEL, **DECAY)


def options(name, decay):
    """Options of a run that trains a whole classifier."""
    return {"optim": {"name": name, "learning_rate": 1e-3, "weight_decay": decay, "clip": None}}


@pytest.mark.parametrize(
    ("sections", "skipped"),
    [
        ({}, True),
        (options("adam", 0.0), True),
        (options("adam", 0.1), False),
        (options("lamb", 0.0), False),
        (options("adafactor", 0.0), False),
        (options("optax.adabelief", 0.0), False),
        (options("adam", 0.1) | {"plan": {"rules": [{"pattern": "word_emb", "weight_decay": False}]}}, True),
        (options("adam", 0.0) | {"plan": {"rules": [{"pattern": "word_emb", "weight_decay": 0.1}]}}, False),
        ({"plan": {"preset": "freeze_embeddings"}}, False),
        ({"regularization": {"l2": 0.1}}, False),
        ({"regularization": {"l1": 0.1}}, False),
        ({"regularization": {"l2_sp": 0.1}}, False),
        ({"regularization": {"mixout": 0.1}}, True),
        ({"vocabulary": {"words": ["quartz"]}, "plan": {"preset": ["full", "new_tokens"]}}, False),
    ],
)
def test_unused_words_are_skipped_only_where_that_changes_nothing(large, data, tmp_path, sections, skipped):
    run = make_run(configure(large, data, tmp_path / "run", **sections))
    assert (run.used_words is not None) == skipped


def test_a_head_that_scores_words_needs_all_of_them(large, data, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("the old river runs over stone.\n\n" * 40)
    sections = {"task": {"name": "fill-mask"}, "data": {"train": str(texts), "validation": None}}
    assert make_run(configure(large, data, tmp_path / "run", **sections)).used_words is None


@pytest.mark.parametrize(
    ("name", "decay"),
    [
        *((x, 0.7) for x in unused_embeddings._DECAY_BY_FACTOR),
        *((x, 0.0) for x in unused_embeddings._DECAY_BY_FACTOR + unused_embeddings._UNCHANGED_WITHOUT_DECAY),
    ],
)
def test_optimizers_move_rows_without_gradient_by_one_factor(name, decay):
    path = tuple(WORDS.split("."))
    rng = np.random.default_rng(0)
    table = rng.normal(0, 1, (6, 4)).astype(np.float32)
    table[-1] = 1
    params = tree.unflatten({path: jnp.asarray(table)})
    plan = make_plan(PlanConfig(preset="full"), params, 0)
    config = OptimConfig(**options(name, decay)["optim"])
    made = optim.make_optimizer(config, plan, 9).build(optim.hyperparameters(config))
    state = made.init(params)
    for _ in range(5):
        grad = rng.normal(0, 1, (6, 4)).astype(np.float32)
        grad[3:] = 0
        updates, state = made.update(tree.unflatten({path: jnp.asarray(grad)}), state, params)
        params = optax.apply_updates(params, updates)
    after = np.asarray(tree.flatten(params)[path])
    assert not np.allclose(after[:3], table[:3], rtol=1e-4)
    assert (after[-1] < 1).all() if decay else np.array_equal(after[-1], table[-1])
    assert after[3:] == pytest.approx(table[3:] * after[-1], rel=1e-6)


def test_used_and_unused_words_are_looked_up_in_their_tables():
    rng = np.random.default_rng(0)
    path = tuple(WORDS.split("."))
    table, used = rng.normal(0, 1, (9, 3)).astype(np.float32), np.array([1, 4, 6])
    params = tree.unflatten({path: table})
    own, beside = split_unused(params, used)
    small = tree.flatten(own)[path]
    assert np.array_equal(small, [*table[used], np.ones(3)])
    trained = Parameters(tree.unflatten({path: np.concatenate([small[:3] + 1, small[3:] * 0.5])}), beside)
    expected = table * 0.5
    expected[used] = table[used] + 1
    assert np.array_equal(tree.flatten(join_unused(trained))[path], expected)
    ids = jnp.asarray(rng.integers(0, 9, (2, 5)))
    arrays = jax.tree.map(jnp.asarray, trained)
    assert np.array_equal(embed_words(arrays, ids, training=False), expected[ids])
    inside = jnp.asarray(used[rng.integers(0, 3, (2, 5))])
    assert np.array_equal(embed_words(arrays, inside, training=True), expected[inside])
    assert join_unused(Parameters(params)) is params
    assert split_unused(params, None) == (params, {})
