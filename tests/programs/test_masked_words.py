"""Fill-mask and pretraining with masking: a step does not depend on layout, micro-batches and devices."""

import math
import re
from functools import partial

import jax
import numpy as np
import pytest

from jaxft import optim
from jaxft.core import random_keys
from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.data.batching.prefetch import put
from jaxft.evaluation.evaluator import make_evaluator
from jaxft.parallel import sharding
from jaxft.run.loss import make_loss, run_loss
from jaxft.run.setup import Run, make_run
from jaxft.step.compilation import abstract_batch
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import init_state, train_step
from tests.support import running_text, tiny
from tests.support.steps import RECORDER, assert_same, gradients, rearranged

KINDS = ("fill-mask", "pretraining")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("text")
    running_text.write(path / "train.txt", 60)
    running_text.write(path / "dev.txt", 20, seed=1)
    tiny.write_model(path / "model", num_hidden_layers=1)
    tiny.write_model(path / "teacher", num_hidden_layers=1, seed=5)
    return path


def open_run(folder, kind: str, **sections) -> Run:
    model = {"path": str(folder / "model"), **tiny.NO_DROPOUT}
    task = {"whole_words": True, "mask_rate": 0.3}
    sections = {"model": model, "task": task, "data": {"documents": "lines"}, **sections}
    return make_run(running_text.configure(folder / "model", folder, folder / "run", kind, **sections))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_do_not_depend_on_the_layout(folder, kind):
    run = open_run(folder, kind)
    packed = run.sampler.epoch_batches(0)
    assert packed.batch(run.data["train"].examples, 1)["segment_ids"].max() > 1
    reference = gradients(rearranged(run, "pad"))
    assert_same(run, reference)
    assert_same(rearranged(run, micro_batches=2, data=4, fsdp=2), reference)


def test_only_masked_positions_are_multiplied_with_the_vocabulary(folder):
    """The largest product with the 41 words in the program has one row per position that may be masked."""
    run = open_run(folder, "fill-mask", data={"layout": "pad"})
    trainable, frozen = run.plan.split(run.params)
    state = init_state(trainable, RECORDER, random_keys.root_key(0), optim.hyperparameters(run.config.optim))
    shape = run.sampler.shapes[0]
    batch = abstract_batch(run.sampler, shape, run.data["train"].examples, sharding.batch_sharding(run.mesh))
    step = jax.jit(partial(train_step, loss_fn=run_loss(run), optimizer=RECORDER, prepare=run.task.prepare))
    program = step.lower(state, Parameters(frozen), batch).as_text()
    sizes = {math.prod(map(int, x.split("x"))) for x in re.findall(r"tensor<((?:\d+x)*\d+)x41xf32>", program)}
    positions = shape.rows * run.task.masking.max_predictions(shape.length, shape.slots)
    assert positions < 0.4 * shape.rows * shape.length
    assert max(sizes) == max(positions, tiny.CONFIG["hidden_size"])


@pytest.mark.parametrize("kind", [pytest.param("fill-mask", marks=pytest.mark.slow), "pretraining"])
def test_masks_differ_between_steps_but_not_between_evaluations(folder, kind):
    run = open_run(folder, kind)
    plan = run.sampler.epoch_batches(0)
    batch = put(plan.batch(run.data["train"].examples, 0), sharding.batch_sharding(run.mesh), plan.shape(0).rows)
    first, second = (run.task.prepare(batch, jax.random.fold_in(random_keys.root_key(0), i)) for i in range(2))
    assert not np.array_equal(first["input_ids"], second["input_ids"])
    scores = []
    for batch_size, layout in ((64, "pack"), (64, "pack"), (5, "pad")):
        data = run.data["validation"]
        sampler = make_sampler(
            data.examples.lengths, batch_size=batch_size, max_length=40, layout=layout, seed=None, shapes=1
        )
        made = make_evaluator(run.task, make_loss(run.model, run.task), data, sampler, Parameters(run.params), run.mesh, len)
        scores.append(made.scores(Parameters(run.params)))
    assert scores[0] == scores[1]
    assert scores[0].keys() == set(run.task.metrics)
    for name, value in scores[0].items():  # one mean over all tokens, and one over all pairs
        assert scores[2][name] == pytest.approx(value, rel=1e-5), name
