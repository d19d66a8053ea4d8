"""Settings before the backend starts: the CPU flag of jaxlib 0.10, the compile cache, clusters; imports have no effect."""

import os
import sys
from importlib.metadata import version

import jax
import pytest
from etils import epath

from jaxft.core import backend
from jaxft.core.errors import UserError
from tests.support.processes import fresh_process

FAULTY = version("jaxlib").startswith(backend.FAULTY_JAXLIB)


IMPORT_JAXFT = """
import json, os
import jaxft
from jaxft.core import backend
flags = os.environ.get("XLA_FLAGS", "")
backend.prepare()
print(json.dumps({"flags": flags, "again": os.environ.get("XLA_FLAGS", ""), "right": backend.sums_are_right()}))
"""


def test_the_cpu_flag_is_added_to_the_users_flags_before_the_backend_starts():
    own = "--xla_backend_optimization_level=1"
    seen = fresh_process(IMPORT_JAXFT, XLA_FLAGS=own)
    assert seen["right"]
    assert own in seen["flags"].split()
    assert (backend.YNN_FLAG in seen["flags"].split()) == FAULTY
    assert seen["again"] == seen["flags"]


def test_the_flag_is_set_neither_on_newer_jaxlib_nor_over_a_users_choice(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    monkeypatch.setattr(backend, "version", lambda _: "0.11.2")
    backend.prepare()
    assert os.environ["XLA_FLAGS"] == "--xla_a=1"
    monkeypatch.setattr(backend, "version", lambda _: "0.10.2")
    name = backend.YNN_FLAG.split("=")[0]
    monkeypatch.setenv("XLA_FLAGS", f"{name}=none")
    backend.prepare()
    assert os.environ["XLA_FLAGS"] == f"{name}=none"


def test_a_backend_that_already_computes_wrong_sums_is_refused(monkeypatch):
    jax.devices()  # the backend is up
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(backend, "version", lambda _: "0.10.2")
    monkeypatch.setattr(backend, "sums_are_right", lambda: False)
    with pytest.raises(UserError, match="import jaxft first"):
        backend.prepare()
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(backend, "sums_are_right", lambda: True)
    backend.prepare()


@pytest.mark.skipif(not FAULTY, reason="this jaxlib computes right sums")
def test_the_check_of_sums_finds_the_fault():
    code = """
import json, jax
from jaxft.core import backend
print(json.dumps({"right": backend.sums_are_right()}))
"""
    flag = backend.YNN_FLAG.split("=")[0]
    assert not fresh_process(code, XLA_FLAGS=f"{flag}=+reduce")["right"]


@pytest.fixture
def no_cache_yet():
    """Restores the session's compile cache after a test that changes it."""
    names = ("jax_compilation_cache_dir", "jax_default_matmul_precision", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_compile_cache_is_in_jaxfts_cache_or_where_the_user_says(no_cache_yet, monkeypatch, tmp_path):
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "mine"))
    assert backend.start(distributed="off").cache == str(tmp_path / "mine" / "xla")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine" / "xla")
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "the user's"))
    assert backend.start(distributed="off").cache == str(tmp_path / "the user's")
    assert backend.start(distributed="off", compile_cache=False).cache == "off"


def test_a_cache_folder_that_cannot_be_made_is_no_error(no_cache_yet, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "file"))
    assert "is not writable" in backend.start(distributed="off").cache
    assert jax.config.jax_compilation_cache_dir is None


def test_a_cache_folder_at_a_url(no_cache_yet, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    for url, why in (("memory://xla", "JAX writes only to gs://, s3://"), ("gs://bucket/xla", "ImportError")):
        jax.config.update("jax_compilation_cache_dir", url)
        assert backend.start(distributed="off").cache.startswith(f"off ({url}: {why}")
        assert jax.config.jax_compilation_cache_dir is None
    monkeypatch.setattr(type(epath.Path("gs://bucket")), "exists", lambda path: False)
    jax.config.update("jax_compilation_cache_dir", "gs://bucket/xla")
    assert backend.start(distributed="off").cache == jax.config.jax_compilation_cache_dir == "gs://bucket/xla"


@pytest.mark.slow
def test_a_second_process_reads_its_programs_from_the_cache(tmp_path):
    code = """
import json, jax
from jaxft.core import backend
backend.start(distributed="off")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
jax.jit(lambda x: x * 2 + 1)(jax.numpy.ones(7)).block_until_ready()
print(json.dumps({"hits": hits.count("/jax/compilation_cache/cache_hits")}))
"""
    assert fresh_process(code, JAXFT_CACHE=str(tmp_path))["hits"] == 0
    assert any((tmp_path / "xla").iterdir())
    assert fresh_process(code, JAXFT_CACHE=str(tmp_path))["hits"] > 0


@pytest.mark.parametrize(
    ("environment", "announced"),
    [
        ({}, False),
        ({"JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),  # a single TPU VM announces itself
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"SLURM_NTASKS": "1"}, False),
        ({"SLURM_NTASKS": ""}, False),
        ({"SLURM_NTASKS": "2"}, True),
    ],
)
def test_a_cluster_is_joined_if_the_environment_announces_one(monkeypatch, environment, announced):
    for name in ("JAX_COORDINATOR_ADDRESS", "TPU_WORKER_HOSTNAMES", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    joined = []
    monkeypatch.setattr(backend, "join_cluster", lambda **options: joined.append(options))
    backend.start(compile_cache=False, start_timeout=7, heartbeat_timeout=8)
    assert joined == [{"start_timeout": 7, "heartbeat_timeout": 8}] * announced


def test_importing_jaxft_and_loading_a_model_do_not_change_the_process(tiny_model):
    """Neither imports JAX before it is needed nor replaces one of its lowerings; making the mesh of a run does."""
    found = fresh_process(
        f"""
import json, os, signal, sys, warnings

def settings():
    environment = {{name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}}
    return environment, list(warnings.filters), [signal.getsignal(x) for x in (signal.SIGINT, signal.SIGTERM)]

before = settings()
import jaxft
unchanged = settings() == before
imported = sorted({{"jax", "numpy"}} & set(sys.modules))
model, params = jaxft.load({str(tiny_model)!r}, task="text-classification", num_labels=3)  # the head is drawn
from jaxft.config import MeshConfig
from jaxft.core import random_keys
from jaxft.parallel import sharding
replaced = [random_keys.make_philox_shardable.cache_info().currsize]
sharding.make_mesh(MeshConfig())
replaced.append(random_keys.make_philox_shardable.cache_info().currsize)
print(json.dumps([unchanged, imported, replaced]))
"""
    )
    assert found == [True, [], [0, 1]]
