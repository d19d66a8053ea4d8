"""What is settled before the backend starts: the CPU flag of jaxlib 0.10, keys, the compile cache."""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxft.config import MeshConfig
from jaxft.core import backend, random_keys
from jaxft.core.errors import UserError
from jaxft.parallel import sharding

FAULTY = version("jaxlib").startswith(backend.FAULTY_JAXLIB)


def fresh_process(code: str, **environment: str) -> dict:
    """The JSON that `code` prints in a new process on CPU, with a user's settings in place of those of the tests."""
    inherited = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS" and not k.startswith(("JAX_COMP", "JAX_PERSIST"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


IMPORT_JAXFT = """
import json, os
import jaxft
from jaxft.core import backend
flags = os.environ.get("XLA_FLAGS", "")
backend.prepare()
print(json.dumps({"flags": flags, "again": os.environ.get("XLA_FLAGS", ""), "right": backend.sums_are_right()}))
"""


def test_the_cpu_flag_is_set_before_the_backend_and_the_users_flags_are_kept():
    own = "--xla_backend_optimization_level=1"
    seen = fresh_process(IMPORT_JAXFT, XLA_FLAGS=own)
    assert seen["right"]
    assert own in seen["flags"].split()
    assert (backend.YNN_FLAG in seen["flags"].split()) == FAULTY
    assert seen["again"] == seen["flags"]


def test_nothing_is_set_on_newer_jaxlib_and_a_users_choice_wins(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    monkeypatch.setattr(backend, "version", lambda _: "0.11.2")
    backend.prepare()
    assert os.environ["XLA_FLAGS"] == "--xla_a=1"
    monkeypatch.setattr(backend, "version", lambda _: "0.10.2")
    name = backend.YNN_FLAG.split("=")[0]
    monkeypatch.setenv("XLA_FLAGS", f"{name}=none")
    backend.prepare()
    assert os.environ["XLA_FLAGS"] == f"{name}=none"


def test_a_backend_that_already_computes_wrong_sums_is_an_error(monkeypatch):
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


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_philox_gives_the_same_bits_on_every_sharding(dtype):
    key = jax.random.fold_in(random_keys.root_key(3), 5)
    mesh = sharding.make_mesh(MeshConfig(data=4, fsdp=2))

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.bits(key, (16, 24), dtype)

    reference = np.asarray(jax.jit(draw)(key))
    assert len(np.unique(reference)) > 300
    for spec in (P(), P("data"), P(("data", "fsdp")), P("fsdp", "data"), P(None, "data")):
        drawn = jax.jit(draw, out_shardings=jax.NamedSharding(mesh, spec))(key)
        np.testing.assert_array_equal(drawn, reference)


def test_philox_is_exact_under_vmap():
    keys = jax.random.split(random_keys.root_key(0), 4)
    together = jax.vmap(lambda key: jax.random.bits(key, (7,)))(keys)
    np.testing.assert_array_equal(together, [jax.random.bits(key, (7,)) for key in keys])


def test_root_keys_differ_by_seed_and_are_philox():
    assert str(jax.random.key_impl(random_keys.root_key(0))) == random_keys.PRNG == "philox4x32"
    words = {tuple(jax.random.key_data(random_keys.root_key(seed)).tolist()) for seed in range(50)}
    assert len(words) == 50


@pytest.fixture
def no_cache_yet():
    """The compile cache's settings of the session come back after a test that changes them."""
    names = ("jax_compilation_cache_dir", "jax_default_matmul_precision", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_compile_cache_lies_where_it_is_told(no_cache_yet, monkeypatch, tmp_path):
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


@pytest.mark.slow
def test_a_second_process_takes_its_programs_from_the_cache(tmp_path):
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


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_large_blocks_are_reused_in_every_thread():
    """XLA runs steps in threads of its own; a block that is mapped anew costs a page fault every 4 KB."""
    found = fresh_process(
        """
import ctypes, json, resource, threading
from jaxft.core import host_memory
host_memory.keep_freed_memory()
libc, size, faults = ctypes.CDLL("libc.so.6"), 2**27, []
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = libc.free.argtypes = [ctypes.c_size_t]

def work():
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = libc.malloc(size)
        ctypes.memset(block, 1, size)
        libc.free(block)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
print(json.dumps(faults))
"""
    )
    assert max(found[1:]) < 100 < found[0]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
@pytest.mark.parametrize("kept", [True, False])
def test_no_block_is_too_large_to_be_kept(kept):
    """The heap ends where it ended after a block of 3 GiB, which nothing touches, is free again.

    To import jaxft changes nothing of this: such a block is mapped beside the heap, and unmapped.
    """
    found = fresh_process(
        f"""
import ctypes, json
import jaxft
from jaxft.core import host_memory
{"host_memory.keep_freed_memory()" if kept else ""}
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
libc.malloc.argtypes = libc.free.argtypes = libc.sbrk.argtypes = [ctypes.c_size_t]
ends = [libc.sbrk(0)]
block = libc.malloc(3 * 2**30)
ends.append(libc.sbrk(0))
libc.free(block)
ends.append(libc.sbrk(0))
print(json.dumps(ends))
"""
    )
    assert found[1] == found[2] > found[0] + 2**31 if kept else len(set(found)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_what_is_free_goes_back_when_a_run_is_over():
    """Also free blocks that something in use lies behind."""
    found = fresh_process(
        """
import ctypes, json
from pathlib import Path
from jaxft.core import host_memory
host_memory.keep_freed_memory()
libc, size = ctypes.CDLL("libc.so.6"), 2**27
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = libc.free.argtypes = [ctypes.c_size_t]

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / size

sizes = [resident()]
blocks = [libc.malloc(size), libc.malloc(2**20)]
ctypes.memset(blocks[0], 1, size)
libc.free(blocks[0])
sizes.append(resident())
host_memory.release_freed_memory()
sizes.append(resident())
print(json.dumps(sizes))
"""
    )
    before, kept, after = found
    assert kept > before + 0.9
    assert after < before + 0.1


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
def test_a_cluster_is_joined_where_the_environment_announces_one(monkeypatch, environment, announced):
    for name in ("JAX_COORDINATOR_ADDRESS", "TPU_WORKER_HOSTNAMES", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    joined = []
    monkeypatch.setattr(backend, "join_cluster", lambda: joined.append(True))
    backend.start(compile_cache=False)
    assert bool(joined) == announced


def test_importing_jaxft_and_loading_a_model_leave_the_process_alone(tiny_model):
    """Neither imports JAX before it is needed nor replaces a lowering of it; a mesh, with which a run begins, does."""
    found = fresh_process(
        f"""
import json, sys
import jaxft
imported = sorted({{"jax", "numpy"}} & set(sys.modules))
model, params = jaxft.load({str(tiny_model)!r}, task="text-classification", num_labels=3)  # the head is drawn
from jaxft.config import MeshConfig
from jaxft.core import random_keys
from jaxft.parallel import sharding
replaced = [getattr(random_keys.make_philox_shardable, "done", False)]
sharding.make_mesh(MeshConfig())
replaced.append(getattr(random_keys.make_philox_shardable, "done", False))
print(json.dumps([imported, replaced]))
"""
    )
    assert found == [[], [False, True]]
