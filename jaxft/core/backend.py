"""Everything that is set before JAX starts its backend: XLA flags, compile cache, matmul precision, the cluster.

`prepare()` is idempotent and cheap, and `import jaxft` calls it. Commands call `silence_libraries()` and `start()`; only
these, and making a mesh (`core/random_keys`), change any other setting of the process.
"""

import os
import sys
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from jaxft.core import host_memory, random_keys
from jaxft.core.cluster import cluster_announced, join_cluster
from jaxft.core.errors import UserError, one_line
from jaxft.core.paths import cache_dir, is_url

# jaxlib 0.10.2 to 0.11.1 fuse reductions into the YNN library on CPU and silently return wrong sums (jax-ml/jax#39103,
# fixed in 0.11.2). jaxlib 0.10 and newer know the flag; an unknown flag would abort the process, hence the version check.
YNN_FLAG = "--xla_cpu_experimental_ynn_fusion_type=-reduce"
FAULTY_JAXLIB = ("0.10.", "0.11.0", "0.11.1")
EPATH_URLS = ("gs://", "s3://", "az://", "hf://")  # what etils.epath knows; it takes others for local paths
# Each library reads its variable when it is imported. jaxft itself reports what the user needs to know.
QUIET = {
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",  # "PyTorch was not found"
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
}


@dataclass(frozen=True)
class Runtime:
    """The backend's settings."""

    platform: str
    device: str
    devices: int
    processes: int
    precision: str
    cache: str

    def line(self) -> str:
        """The line that a command prints when it starts."""
        return (
            f"jax {version('jax')} on {self.devices} x {self.device} ({self.platform}), {self.processes} process(es); "
            f"keys {random_keys.PRNG}; matmul precision {self.precision}; compile cache {self.cache}"
        )


def prepare() -> None:
    """Set the flag without which CPUs compute wrong sums, which is all that `import jaxft` does to a process.

    Raises:
      UserError: if a backend has already started in this process without the CPU flag and computes wrong sums.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if not version("jaxlib").startswith(FAULTY_JAXLIB) or YNN_FLAG.partition("=")[0] in flags:
        return
    os.environ["XLA_FLAGS"] = f"{flags} {YNN_FLAG}".strip()
    bridge = sys.modules.get("jax._src.xla_bridge")  # there is no public way to ask without starting the backend
    if bridge is not None and bridge.backends_are_initialized() and not sums_are_right():
        raise UserError(
            "this process started JAX before jaxft and its CPU sums are wrong (a fault of jaxlib 0.10): import jaxft "
            f"first, or set XLA_FLAGS={YNN_FLAG}"
        )


def silence_libraries() -> None:
    """Silence warnings of libraries; call it before their imports. `python -W` and variables that are set win."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a download would write thousands of lines into a log
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


@cache
def multiplies_bfloat16() -> bool:
    """Whether this machine's processor multiplies bfloat16 in hardware (AVX-512 BF16 or AMX)."""
    path = Path("/proc/cpuinfo")
    words = set(path.read_text(encoding="utf-8").split()) if path.exists() else set()
    return bool(words & {"avx512_bf16", "amx_bf16"})


def sums_are_right() -> bool:
    """Whether a jitted sum over matrix-vector products is exact, which it is not on CPU with a faulty jaxlib and no flag."""
    import jax
    import jax.numpy as jnp

    size = 32_769  # the smallest at which jax-ml/jax#39103 shows in float32
    rows = jnp.zeros((size, 3), jnp.float32).at[:, 0].set(jnp.arange(size, dtype=jnp.float32))
    eye = jnp.eye(3, dtype=jnp.float32)
    squares = jax.jit(jax.vmap(lambda row: jnp.square(eye @ row).sum()))(rows)
    return float(squares[-1]) == float(size - 1) ** 2


def start(
    *,
    distributed: str = "auto",
    precision: str = "float32",
    compile_cache: bool = True,
    platforms: str | None = None,
    start_timeout: int = 300,
    heartbeat_timeout: int = 100,
) -> Runtime:
    """Prepare, join the cluster if there is one, start the backend, and return its settings.

    Args:
      distributed: `auto` joins a cluster if the environment announces one; `on` always does, `off` never.
      precision: matmul precision of float32 products (`float32` is exact; `tensorfloat32` and `bfloat16` are faster).
      compile_cache: keep compiled programs in the user's cache folder.
      platforms: the platforms to start, such as cpu; None starts what JAX finds.
      start_timeout, heartbeat_timeout: of the cluster, as `join_cluster`.
    """
    prepare()
    host_memory.keep_freed_memory()
    import jax

    if platforms is not None:
        jax.config.update("jax_platforms", platforms)
    if distributed == "on" or (distributed == "auto" and cluster_announced()):
        join_cluster(start_timeout=start_timeout, heartbeat_timeout=heartbeat_timeout)
    jax.config.update("jax_default_matmul_precision", precision)
    cache = _use_compile_cache() if compile_cache else "off"
    devices = jax.devices()
    return Runtime(devices[0].platform, devices[0].device_kind, len(devices), jax.process_count(), precision, cache)


def _fault_of_url(folder: str) -> str | None:
    """Why JAX, which reads and writes URLs through `etils.epath`, cannot use one as its compile cache; None if it can."""
    from etils import epath

    if not folder.startswith(EPATH_URLS):
        return f"JAX writes only to {', '.join(EPATH_URLS)}"
    try:
        epath.Path(folder).exists()
    except Exception as error:  # noqa: BLE001 (a missing package, credentials, a server: the run does without a cache)
        return f"{type(error).__name__}: {one_line(error)[:160]}"
    return None


def _use_compile_cache() -> str:
    import jax

    folder = jax.config.jax_compilation_cache_dir or str(cache_dir() / "xla")  # pyright: ignore[reportAttributeAccessIssue]
    if is_url(folder):
        fault = _fault_of_url(folder)
        if fault:
            jax.config.update("jax_compilation_cache_dir", None)  # JAX would try it, and warn of each program
            return f"off ({folder}: {fault})"
    else:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            writable = os.access(folder, os.W_OK)
        except OSError:
            writable = False
        if not writable:
            return f"off ({folder} is not writable)"
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder
