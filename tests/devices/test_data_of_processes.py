"""The data of several processes: the rows of each, each row is predicted once, and one tokenises for all."""

import json
import signal

import pytest

from jaxft.config import cli
from tests.support import read_jsonl, tiny

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


# Evaluates, and predicts with the same processes.
BOTH = """
import json, sys
from jaxft import evaluate, predict

for command, argv in zip((evaluate, predict), json.loads(sys.argv[1])):
    command.main(argv)
"""


@pytest.mark.slow
def test_evaluation_and_predictions_are_the_same_from_any_number_of_processes(finish, classifier, tmp_path):
    """On six devices in all, so that the programs are the same: the same scores and bytes, each row once and in order."""
    rows = tiny.write_rows(tmp_path / "rows.csv", 101, seed=9)
    options = ["--data.max_length=32", "--eval.batch_size=20"]
    scores, files = [], []
    for count in (1, 2, 3):
        evaluated, predicted = tmp_path / f"{count}-all.jsonl", tmp_path / f"{count}.jsonl"
        evaluate = [str(classifier), f"--data.validation={rows}", f"--predictions={evaluated}", *options]
        predict = [str(classifier), f"--input={rows}", f"--output={predicted}", "--keep_columns", *options]
        commands = json.dumps([evaluate, [*predict, "--runtime.distributed=off"]])  # the processes have joined before
        told = finish("-c", BOTH, commands, count=count, devices=6 // count)
        printed = [[line for line in out.splitlines() if line.startswith("{")] for out, _ in told]
        assert [len(lines) for lines in printed] == [1] + [0] * (count - 1)
        assert [f"wrote 101 predictions to {predicted}" in err for _, err in told] == [True] + [False] * (count - 1)
        scores += printed[0]
        files.append((evaluated.read_bytes(), predicted.read_bytes()))
    found = [json.loads(text) for text in scores]
    losses = [each.pop("loss") for each in found]
    assert losses == pytest.approx(losses[:1] * 3, rel=1e-6)  # sums over processes have another order
    assert found == found[:1] * 3
    assert files == files[:1] * 3
    texts = [line.rpartition(",")[0] for line in rows.read_text().splitlines()[1:]]
    for end in ("-all.jsonl", ".jsonl"):
        assert [row["text"] for row in read_jsonl(tmp_path / f"3{end}")] == texts


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
    with joined(config):
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
