"""A signal to one of two processes, whatever they are doing: both leave soon, and the run that goes on is the whole one."""

import signal
import time

import pytest

from jaxft.config import cli
from tests.support import tiny
from tests.support.resuming import MODEL, journal

# Trains; process ASKED sends itself a signal when a function (MODULE:NAME) is called for the first time.
TRAINS = """
import importlib, operator, os, signal, sys, time
from jaxft.config import cli
from jaxft.train import main

module, _, path = os.environ["PLACE"].partition(":")
*parents, name = path.split(".")
owner = importlib.import_module(module)
for parent in parents:
    owner = getattr(owner, parent)
function, asked = getattr(owner, name), []

def ask(*args, **options):
    if not asked:
        asked.append(True)
        print("asked", flush=True)
        if os.environ["JAX_PROCESS_ID"] == os.environ["ASKED"]:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(3)  # JAX's preemption service looks once per second, and this run would have ended by then
    return function(*args, **options)

setattr(owner, name, ask)
cli.run_main(main, sys.argv[1:])
"""
SECTIONS = {
    "model": tiny.NO_DROPOUT,
    "mesh": {"data": -1},
    "runtime": {"distributed": "on"},
    "train": {"max_steps": 6, "batch_size": 16},
    "eval": {"every": 3},
    "checkpoint": {"every": 2},
    "log": {"every": 1, "progress": False},
}
STOPPED, DONE = [128 + signal.SIGTERM] * 2, [0, 0]


@pytest.fixture
def start(cluster, tiny_model, tiny_data, classifier, tmp_path):
    """A function that starts the two processes of a run, and returns (their exit codes, errors, seconds since `asked`)."""

    def run(name: str, place: str = "jaxft.run.splits:read_data", asked: int = -1) -> tuple[list[int], list[str], float]:
        distill = {"teacher": str(classifier), "cache_dir": str(tmp_path / f"{name}-outputs")}
        config = tiny.run_config(tiny_model, tiny_data, tmp_path / name, distill=distill, **SECTIONS)
        (tmp_path / "run.yaml").write_text(cli.dump(config))
        hosts = cluster("-c", TRAINS, "run.yaml", variables=[{"PLACE": place, "ASKED": str(asked)}] * 2)
        asks = "asked\n" in iter(hosts[max(asked, 0)].stdout.readline, "")  # reads up to it, or all
        begin = time.monotonic()
        told = [host.communicate(timeout=300)[1] for host in hosts]
        assert asks, told
        return [host.returncode for host in hosts], told, time.monotonic() - begin

    return run


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_both_leave_soon_and_the_run_that_goes_on_is_the_whole_one(start, tmp_path):
    codes, told, _ = start("whole")
    assert codes == DONE, told
    for number, (place, ends) in enumerate(
        {
            "jaxft.run.splits:read_data": STOPPED,
            "jaxft.teacher_cache.fill:outputs": STOPPED,
            "jaxft.step.compilation:compile_lowered": STOPPED,
            "jaxft.training.checkpoint:Checkpoints.save": STOPPED,
            "jaxft.training.evaluations:score": STOPPED,
            "jaxft.export:export_params": DONE,  # everything is saved, and what is left takes a moment
        }.items()
    ):
        name = f"run-{number}"
        codes, told, seconds = start(name, place, number % 2)
        assert codes == ends, (place, told)
        assert seconds < 10, place
        if codes != DONE:
            codes, told, _ = start(name)
            assert codes == DONE, (place, told)
        assert journal(tmp_path / name) == journal(tmp_path / "whole"), place
        assert (tmp_path / name / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes(), place
