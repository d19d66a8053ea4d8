"""Training examples count by their weights (`data.weight`) in the loss of every kind of task."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.config import AugmentStepConfig
from jaxft.run.example_weights import TOKEN_WEIGHTS, WEIGHTS, with_weights
from jaxft.run.loss import run_prepare
from jaxft.run.setup import Run, make_run
from jaxft.tasks.several import WEIGHTS as OF_TASKS
from tests.support import several, weighed
from tests.support.weighed import KINDS, ROWS, weight_of


@pytest.fixture(scope="module")
def runs(tiny_model, tmp_path_factory) -> dict[str, Run]:
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp("weights")
        found[kind] = make_run(weighed.configure(kind, tiny_model, folder, folder / "run"))
    return found


def expected(run: Run) -> np.ndarray:
    """The weight of each example, by the row that it is made of."""
    rows = run.task.rows_of_examples(run.data["train"])
    return np.array([weight_of(row) for row in rows], np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_examples_have_the_weights_of_their_rows(runs, kind):
    run = runs[kind]
    examples = run.data["train"].examples
    assert len(np.unique(run.task.rows_of_examples(run.data["train"]))) == ROWS
    np.testing.assert_array_equal(examples.columns[WEIGHTS], expected(run))
    np.testing.assert_array_equal(examples.tokens[TOKEN_WEIGHTS], np.repeat(expected(run), examples.lengths))
    if kind in ("tags", "spans", "words"):
        assert len(examples) > ROWS


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_weighted_sum(runs, kind):
    """That of weights 1 and 2.5 is the sum of both parts, each computed alone; without weights, all have 1."""
    run = runs[kind]
    examples, key = run.data["train"].examples, jax.random.key(0)
    whole, plain = expected(run), replace(examples, columns=dict(examples.columns), tokens=dict(examples.tokens))
    del plain.columns[WEIGHTS], plain.tokens[TOKEN_WEIGHTS]
    batches = run.sampler.epoch_batches(0)
    outputs = {}

    def total(some) -> np.ndarray:
        """(loss, weight of the loss, sum of the weights of texts) of a step, for random outputs."""
        batch = {name: jnp.asarray(x) for name, x in batches.batch(some, 0).items()}
        micro = {name: x[0] for name, x in run_prepare(run)(batch, key).items()}
        if not outputs:
            shapes = jax.eval_shape(lambda x: run.task.run_model(run.model, run.params, x), micro)
            rng = np.random.default_rng(0)
            outputs.update({name: jnp.asarray(rng.normal(size=x.shape), jnp.float32) for name, x in shapes.items()})
        return np.array([*run.task.loss(outputs, micro, True), run.task.text_weights(micro).sum()])

    parts = [total(with_weights(examples, (whole == w).astype(np.float32))) for w in (1, 2.5)]
    ones = total(with_weights(examples, np.ones(len(examples))))
    found = total(examples)
    np.testing.assert_allclose(found, parts[0] + 2.5 * parts[1], rtol=1e-5)
    np.testing.assert_allclose(ones, total(plain), rtol=1e-6)
    assert np.isclose(found[1], found[2])
    assert not np.allclose(found, ones, rtol=1e-3)


def test_edited_examples_keep_their_weights(tiny_model, tmp_path):
    config = weighed.configure("tags", tiny_model, tmp_path, tmp_path / "run")
    steps = [AugmentStepConfig(step="delete", rate=0.4)]
    run = make_run(replace(config, augment=replace(config.augment, steps=steps, share=1.0)))
    given, edited = run.data["train"].examples, run.epochs.first[0]
    assert edited.lengths.sum() < given.lengths.sum()
    np.testing.assert_array_equal(edited.columns[WEIGHTS], given.columns[WEIGHTS])
    np.testing.assert_array_equal(edited.tokens[TOKEN_WEIGHTS], np.repeat(given.columns[WEIGHTS], edited.lengths))


def test_one_of_several_tasks_has_weights(tiny_model, tmp_path):
    several.write_files(tmp_path)
    names = ["moods", "tags"]
    own = [weighed.KINDS[kind](tmp_path)["data"] for kind in ("classes", "tags")]
    changes = {name: {"data": {**x, "weight": weighed.COLUMN}} for name, x in zip(names, own, strict=True)}
    run = make_run(several.configure(tiny_model, tmp_path, tmp_path / "run", names, changes=changes))
    examples, batches = run.data["train"].examples, run.sampler.epoch_batches(0)
    batch = {name: jnp.asarray(x) for name, x in batches.batch(examples, 0).items()}
    sums = np.asarray(run_prepare(run)(batch, jax.random.key(0))[OF_TASKS][0])
    chosen = batches.examples(0)
    moods = chosen[examples.columns["task"][chosen] == 0]
    assert sums[0] == pytest.approx(examples.columns["moods/weights"][moods].sum())
    counted = (np.asarray(batch["tags/labels"]) > 0) * np.asarray(batch["tags/token_weights"])
    assert sums[1] == pytest.approx(counted.sum())
