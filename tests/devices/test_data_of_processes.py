"""The data of several processes: each example is used once, each row is predicted once, and one tokenises for all."""

import json
import signal
from pathlib import Path

import pytest

from jaxft.config import cli
from tests.support import read_jsonl, tiny
from tests.support.resuming import assert_journals_close, copy_run_at, journal, short_config

# A callback whose module writes the examples of every training batch that a process builds into a file of its own.
RECORDS = """
import json, os
import jax, jaxft
from jaxft.data.batching.batch_sampler import EpochBatches

build = EpochBatches.batch

def recorded(self, examples, step, rows=None):
    made = build(self, examples, step, rows)
    used = made["example"][made["example"] >= 0].tolist()
    with open(f"{os.environ['USED']}-{jax.process_index()}", "a") as file:
        file.write(json.dumps([step, used]) + "\\n")
    return made

EpochBatches.batch = recorded

class Records(jaxft.Callback):
    pass
"""


def used_examples(path: Path, processes: int, first: int) -> list[list[int]]:
    """The examples of each step from `first` on, of all processes together."""
    each = [read_jsonl(path.with_name(f"{path.name}-{number}")) for number in range(processes)]
    assert {len(steps) for steps in each} == {14 - first}
    found = []
    for number, parts in enumerate(zip(*each, strict=True), first):
        assert {step for step, _ in parts} == {number % 7}
        found.append(sorted(example for _, part in parts for example in part))
    return found


@pytest.mark.slow
def test_a_run_that_goes_on_with_other_processes_uses_the_same_examples(finish, tiny_model, tiny_data, tmp_path):
    """Two epochs of 7 steps with packing and micro-batches: on 1 process, and on 2 x 2 devices, then 3, then 4, then 1."""
    (tmp_path / "records.py").write_text(RECORDS)
    sections = {"train": {"epochs": 2, "batch_size": 16, "micro_batches": 2, "callbacks": ["records:Records"]}}
    sections |= {"mesh": {"data": -1}, "runtime": {"distributed": "auto"}}

    def run(name: str, processes: int, first: int = 0, devices: int = 1) -> list[list[int]]:
        config = short_config(tiny_model, tiny_data, tmp_path / name, **sections)
        (tmp_path / "config.yaml").write_text(cli.dump(config))
        used = {"USED": str(tmp_path / f"used-{name}")}
        command = ["-m", "jaxft.train", str(tmp_path / "config.yaml")]
        finish(*command, count=processes, devices=devices, variables=[used] * processes)
        return used_examples(tmp_path / f"used-{name}", processes, first)

    whole = run("whole", 1)
    for epoch in (whole[:7], whole[7:]):
        assert sorted(example for step in epoch for example in step) == list(range(100))
    assert run("first", 2, devices=2) == whole
    before = "first"
    for processes, first in ((3, 3), (4, 6), (1, 9)):
        name = f"from-{first}"
        copy_run_at(first, tmp_path / before, tmp_path / name)
        assert run(name, processes, first) == whole[first:]
        assert_journals_close(journal(tmp_path / name), journal(tmp_path / "whole"), rel=1e-4)
        before = name


ACROSS = """
import numpy as np
from jaxft.core import backend
backend.start(compile_cache=False)
import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh
from jaxft.data.batching.prefetch import local_rows, put
from jaxft.parallel.sharding import batch_sharding

devices = np.array(jax.devices())[[0, 2, 3, 1]].reshape(4, 1)
sharding = batch_sharding(Mesh(devices, ("data", "fsdp"), (AxisType.Auto,) * 2))
whole = np.arange(2 * 8 * 3).reshape(2, 8, 3)
rows = local_rows(sharding, 8)
assert rows.tolist() == ([0, 1, 6, 7], [2, 3, 4, 5])[jax.process_index()], rows
batch = put({"x": whole[:, rows]}, sharding, 8)
np.testing.assert_array_equal(multihost_utils.process_allgather(batch["x"], tiled=True), whole)
"""


@pytest.mark.slow
def test_a_mesh_across_processes_gets_the_rows_in_its_order(finish):
    finish("-c", ACROSS, devices=2)


@pytest.mark.slow
def test_evaluation_and_predictions_are_the_same_from_any_number_of_processes(finish, classifier, tiny_data, tmp_path):
    """On six devices in all, so that the programs are the same: the same scores and bytes, each row once and in order."""
    rows = tiny.write_rows(tmp_path / "rows.csv", 203, seed=9)
    options = ["--data.max_length", "32", "--eval.batch_size", "40"]
    scores, files = [], []
    for count in (1, 2, 3):
        own = tmp_path / str(count)
        evaluate = ["evaluate", str(classifier), "--data.validation", str(rows), "--predictions", f"{own}-all.jsonl"]
        predict = ["predict", str(classifier), "--input", str(rows), "--output", f"{own}.jsonl", "--keep_columns"]
        told = finish("-m", "jaxft", *evaluate, *options, count=count, devices=6 // count)
        scores.append(told[0][0])
        assert [out for out, _ in told[1:]] == [""] * (count - 1)
        told = finish("-m", "jaxft", *predict, *options, count=count, devices=6 // count)
        assert [f"wrote 203 predictions to {own}.jsonl" in err for _, err in told] == [True] + [False] * (count - 1)
        files.append([(tmp_path / f"{count}{end}").read_bytes() for end in ("-all.jsonl", ".jsonl")])
    assert json.loads(scores[0])["accuracy"] >= 0
    assert scores == scores[:1] * 3
    assert files == files[:1] * 3
    texts = [line.rpartition(",")[0] for line in rows.read_text().splitlines()[1:]]
    assert [row["text"] for row in read_jsonl(tmp_path / "3.jsonl")] == texts


# Reads the data of a config as a command does, says when it tokenises, and then does what `FAULT` says.
TOKENISES = """
import os, signal, sys
from jaxft.config import cli
from jaxft.data.tokens import encode
from jaxft.run.joined import joined
from jaxft.run.model_setup import resolve_model
from jaxft.run.splits import read_data

tokenise = encode._tokenise

def told(encode_chunk, count, *others):
    print("tokenises", count, flush=True)
    exec(os.environ.get("FAULT", ""))
    return tokenise(encode_chunk, count, *others)

def main(argv):
    config = cli.load(argv)
    with joined(config.runtime):
        read = read_data(config, *resolve_model(config))
        print("tokens", *(int(split.examples.offsets[-1]) for split in read.splits.values()))

encode._tokenise = told
cli.run_main(main, sys.argv[1:])
"""


@pytest.fixture
def config(tiny_model, tiny_data, tmp_path) -> str:
    """The path of a config for several processes."""
    sections = {"mesh": {"data": -1}, "runtime": {"distributed": "auto"}, "model": tiny.NO_DROPOUT}
    (tmp_path / "config.yaml").write_text(cli.dump(tiny.run_config(tiny_model, tiny_data, tmp_path / "run", **sections)))
    return str(tmp_path / "config.yaml")


def told_lines(told: list[tuple[str, str]]) -> list[list[str]]:
    """What the script has printed in each process, without the lines of JAX."""
    return [[line for line in out.splitlines() if line.startswith("token")] for out, _ in told]


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_one_process_tokenises_for_all_that_share_the_cache(finish, config, tmp_path, shared):
    places = ["cache", "cache" if shared else "other"]
    variables = [{"JAXFT_CACHE": str(tmp_path / name)} for name in places]
    cold, warm = (told_lines(finish("-c", TOKENISES, config, variables=variables)) for _ in range(2))
    made = ["tokenises 100", "tokenises 30"]
    assert [x[:-1] for x in cold] == [made, [] if shared else made]
    assert warm == [x[-1:] for x in cold]
    assert cold[0][-1] == cold[1][-1]
    for name in set(places):
        assert len([*(tmp_path / name / "tokens").iterdir()]) == 2  # and no marks


@pytest.mark.slow
def test_an_error_of_the_process_that_tokenises_is_one_of_all(cluster, config):
    hosts = cluster("-c", TOKENISES, config, "--data.max_length=4", "--data.truncation=false")
    for host in hosts:
        _, err = host.communicate(timeout=120)
        assert host.returncode == 2, err
        assert "train.csv: row " in err.splitlines()[-1], err
        assert "more than data.max_length 4" in err.splitlines()[-1]


@pytest.mark.slow
def test_a_process_does_not_wait_for_one_that_died_while_it_tokenised(cluster, config):
    fault = {"FAULT": "os.kill(os.getpid(), signal.SIGKILL)"}
    hosts = cluster("-c", TOKENISES, config, "--runtime.heartbeat_timeout=12", variables=[fault, {}])
    told = [host.communicate(timeout=120) for host in hosts]
    assert hosts[0].returncode == -signal.SIGKILL
    assert hosts[1].returncode in (142, -signal.SIGABRT), told


@pytest.mark.slow
def test_a_signal_to_a_process_that_waits_ends_all(cluster, config):
    hosts = cluster("-c", TOKENISES, config, variables=[{"FAULT": "import time; time.sleep(100)"}, {}])
    while not hosts[0].stdout.readline().startswith("tokenises"):
        assert hosts[0].poll() is None
    hosts[1].send_signal(signal.SIGTERM)
    told = [host.communicate(timeout=60) for host in hosts]
    assert [host.returncode for host in hosts] == [143, 143], told


@pytest.mark.slow
def test_processes_with_other_rows_are_refused(cluster, config, tiny_data, tmp_path):
    for number, rows in enumerate((100, 101)):
        (tmp_path / f"host-{number}").mkdir()
        tiny.write_rows(tmp_path / f"host-{number}" / "train.csv", rows)
    folders = [tmp_path / "host-0", tmp_path / "host-1"]
    hosts = cluster("-m", "jaxft.train", config, "--data.train=train.csv", folders=folders)
    for host in hosts:
        _, err = host.communicate(timeout=120)
        assert host.returncode == 2, err
        assert "train.csv: processes 1 of 2 read other rows there" in err, err
