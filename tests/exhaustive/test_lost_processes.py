"""One of four processes is killed or stopped at a random moment: the others leave and name it, and the run goes on."""

import random
import shutil
import signal
import subprocess
import time

import pytest

from jaxft.config import cli
from jaxft.core.errors import RESTART
from tests.support import tiny
from tests.support.clusters import end_processes, start_processes
from tests.support.resuming import MODEL, journal

PROCESSES, TRIALS, HEARTBEAT = 4, 40, 12
ABORTED = -signal.SIGABRT  # of JAX, where process 0 is gone
SECTIONS = {
    "mesh": {"data": -1},
    "runtime": {"distributed": "on", "heartbeat_timeout": HEARTBEAT, "start_timeout": 60},
    "train": {"epochs": 6, "batch_size": 16},
    "eval": {"every": 5},
    "checkpoint": {"every": 4, "keep": 2},
    "log": {"every": 1, "progress": False},
}


@pytest.fixture(scope="module")
def cluster(tiny_model, tiny_data, tmp_path_factory):
    """(a function that starts the four processes of a run in a directory, the finished run, its seconds)."""
    folder = tmp_path_factory.mktemp("four")
    started = []

    def start(name: str) -> list[subprocess.Popen]:
        path = folder / f"{name}.yaml"
        path.write_text(cli.dump(tiny.run_config(tiny_model, tiny_data, folder / name, **SECTIONS)))
        started.extend(start_processes(folder, "-m", "jaxft.train", str(path), count=PROCESSES))
        return started[-PROCESSES:]

    for name in ("cold", "whole"):
        begin = time.monotonic()
        hosts = start(name)
        told = [host.communicate(timeout=600)[1] for host in hosts]
        assert [host.returncode for host in hosts] == [0] * PROCESSES, told
    yield start, folder, time.monotonic() - begin
    end_processes(started)


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", range(TRIALS))
def test_the_others_name_the_lost_process_and_the_run_goes_on(cluster, number):
    start, folder, seconds = cluster
    rng = random.Random(number)
    lost, sent = number % PROCESSES, (signal.SIGKILL, signal.SIGSTOP)[number // PROCESSES % 2]
    moment = rng.uniform(0.1, 1) * seconds
    name = f"lost-{number}"
    hosts = start(name)
    time.sleep(moment)
    ended = [host.poll() for host in hosts]
    hosts[lost].send_signal(sent)
    begin = time.monotonic()
    others = [host for host in hosts if host is not hosts[lost]]
    told = [host.communicate(timeout=300)[1] for host in others]
    waited = time.monotonic() - begin
    codes = [host.returncode for host in others]
    hosts[lost].kill()
    hosts[lost].communicate()
    where = f"process {lost}, {sent.name} after {moment:.1f} of {seconds:.1f} s, codes {codes}, {waited:.1f} s: "
    # Those that had nothing more to wait for end as if nothing had happened.
    allowed = {0, RESTART} | ({ABORTED} if lost == 0 else set())
    assert set(codes) <= allowed, where + "\n".join(told)
    if ended == [None] * PROCESSES and RESTART in codes:
        assert waited < 60 + 2 * HEARTBEAT, where  # at most start_timeout, before all have joined
        if lost or ABORTED not in codes:
            texts = [text for text, code in zip(told, codes, strict=True) if code == RESTART]
            named = [f"process {lost}" in text or f"processes {lost} to" in text for text in texts]
            assert all(named), where + "\n".join(texts)
    for _ in range(3):
        again = start(name)
        told = [host.communicate(timeout=600)[1] for host in again]
        if {host.returncode for host in again} == {0}:
            break
    assert [host.returncode for host in again] == [0] * PROCESSES, where + "\n".join(told)
    assert (folder / name / MODEL).read_bytes() == (folder / "whole" / MODEL).read_bytes(), where
    assert journal(folder / name) == journal(folder / "whole"), where
    shutil.rmtree(folder / name)
