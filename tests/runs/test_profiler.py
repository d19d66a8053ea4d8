"""Traces of some steps, and the names of a step's parts in them."""

import gzip
import json
import re

import pytest

from jaxft.core.errors import UserError
from jaxft.parallel import sharding
from jaxft.run.loss import run_loss
from jaxft.run.setup import make_run
from jaxft.run.state import fresh_state, run_optimizer
from jaxft.step.compilation import abstract_batches, lower_train
from jaxft.train import train
from tests.support import tiny


def configure(tiny_model, tiny_data, folder, window):
    return tiny.run_config(
        tiny_model,
        tiny_data,
        folder / "run",
        model=tiny.NO_DROPOUT,
        plan={"preset": "head"},
        train={"max_steps": 5},
        log={"profile_steps": window, "progress": False},
    )


def steps_of(file) -> list[int]:
    """The steps that a trace holds, from the file for Perfetto: `jax.profiler.ProfileData` aborts in jax 0.12."""
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    return sorted({int(e["args"]["step_num"]) for e in events if e.get("name") == "train"})


@pytest.mark.parametrize(("window", "traced"), [([2, 3], [2, 3]), ([4, 99], [4, 5])])
def test_a_window_of_steps_is_traced(tiny_data, tmp_path, capsys, window, traced):
    train(configure(tiny.write_model(tmp_path / "model", num_hidden_layers=1), tiny_data, tmp_path, window))
    [file] = (tmp_path / "run/profile").rglob("*.trace.json.gz")
    assert steps_of(file) == traced
    assert f"trace of steps {traced[0]} to {traced[-1]} is in" in capsys.readouterr().err
    [file] = (tmp_path / "run/profile").rglob("*.xplane.pb")
    programs = file.read_bytes()
    for part in (b"jvp(encoder)", b"heads/main", b"transpose(jvp(", b"loss", b"optimizer"):
        assert b"/" + part in programs, part


@pytest.mark.parametrize("window", [[3], [0, 2], [5, 4]])
def test_a_bad_window_is_refused(tiny_model, tiny_data, tmp_path, window):
    with pytest.raises(UserError, match=r"log\.profile_steps is .*: must be the first and the last step, such as"):
        configure(tiny_model, tiny_data, tmp_path, window)


def test_parts_of_a_step_have_names(tiny_model, tiny_data, tmp_path):
    run = make_run(configure(tiny_model, tiny_data, tmp_path, None))
    state, frozen = fresh_state(run)
    batches = abstract_batches(run.sampler, run.data["train"].examples, sharding.batch_sharding(run.mesh))
    lowered = lower_train(run_loss(run), run_optimizer(run), state, frozen, next(iter(batches.values())))
    text = lowered.as_text(debug_info=True)
    for name in ("encoder", "heads/main", "loss", "optimizer"):
        assert re.search(rf"[/(]{name}[/)]", text), name
