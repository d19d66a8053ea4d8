"""Compile a run's train step for accelerators that are not attached, and predict its cost.

TPU programs are compiled by the package libtpu on any machine, GPU programs by JAX's CUDA packages. Peaks are those of the
data sheets (https://cloud.google.com/tpu/docs/system-architecture-tpu-vm, https://www.nvidia.com/en-us/data-center/h200,
https://docs.nvidia.com/dgx/dgxh100-user-guide: eight GPUs per host, each with 400 Gbit/s to other hosts).
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from typing import Any

from jaxft.core.errors import UserError, nearest
from jaxft.preflight.costs import Cost
from jaxft.preflight.hlo import Collective, by_kind

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """The data sheet of one chip.

    Attributes:
      flops: peak bfloat16 FLOP/s.
      memory: bytes available to programs.
      bandwidth: memory bandwidth in bytes per second.
      links: bytes per second to other chips, over all links in one direction; of a GPU, to those of the same host.
      maker: the vendor of a GPU, whose topology is a number; None for TPUs.
      network: bytes per second of a GPU to other hosts, in one direction.
      cores: libtpu's name for the use of a chip's cores, where its default is not that of a TPU VM.
    """

    flops: float
    memory: float
    bandwidth: float
    links: float
    maker: str | None = None
    network: float = 0.0
    cores: str | None = None


GPUS_OF_A_HOST = 8
CHIPS = {
    "v4": Chip(275e12, 32 * GIB, 1228e9, 150e9, cores="megacore"),  # both cores as one device
    "v5e": Chip(197e12, 15.75 * GIB, 819e9, 100e9),
    "v5p": Chip(459e12, 95.74 * GIB, 2765e9, 300e9),
    "v6e": Chip(918e12, 31.25 * GIB, 1640e9, 224e9),
    "h100": Chip(989e12, 80 * GIB, 3350e9, 450e9, "NVIDIA", 50e9),
    "h200": Chip(989e12, 141 * GIB, 4800e9, 450e9, "NVIDIA", 50e9),
}
_NAME = re.compile(r"^(\w+):(\d+(?:x\d+){0,2})$")
# The description that XLA needs to compile for a Hopper GPU that is not attached (`GpuTargetConfigProto`, openxla/xla): the
# limits of compute capability 9.0 (CUDA C++ Programming Guide, table of technical specifications) and the clock of SXM
# boards. The cuDNN version is older than any in JAX's CUDA packages (9.12), as in XLA's own descriptions.
_HOPPER = """
gpu_device_info {{
  cuda_compute_capability {{ major: 9 feature_extension: ACCELERATED_FEATURES }}
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  registers_per_block_limit: 65536 registers_per_core_limit: 65536
  l2_cache_size: 52428800 device_memory_size: {memory} memory_bandwidth: {bandwidth} device_address_bits: 64
  name: "{name}" driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{name}"
"""


@dataclass(frozen=True)
class Prediction:
    """The data sheet's bound on a step; a program is never faster, and is often slower.

    Attributes:
      times: seconds for computation, memory access and communication, by name.
      share: the share of the peak FLOP/s that the step reaches in that time.
      rows: a lower bound on the rows of a batch that fit; 0 if not even the parameters fit.
    """

    times: Mapping[str, float]
    share: float
    rows: int

    @property
    def bound(self) -> str:
        """The name of the longest time."""
        return max(self.times, key=lambda name: self.times[name])

    @property
    def seconds(self) -> float:
        """The longest time: all of them may overlap."""
        return self.times[self.bound]


def parse(name: str) -> tuple[Chip, int]:
    """Parse a topology such as v5e:2x4 or h200:8 into (chip, number of chips). Raises a UserError for unknown names."""
    match = _NAME.match(name)
    chip = CHIPS.get(match[1]) if match else None
    if match is None or chip is None or ("x" in match[2]) == bool(chip.maker) or "0" in match[2].split("x"):
        tpus, gpus = (", ".join(x for x, c in CHIPS.items() if bool(c.maker) is gpu) for gpu in (False, True))
        hint = nearest(name.partition(":")[0], CHIPS) if match and chip is None else ""
        raise UserError(f'--topology is "{name}": give {tpus} and a shape (v5e:2x4), or {gpus} and a number (h200:8){hint}')
    return chip, prod(map(int, match[2].split("x")))


def missing_compiler(name: str) -> str | None:
    """The package that is needed to compile for a topology and how to install it; None if it is installed."""
    chip, _ = parse(name)
    if chip.maker is None:
        return None if find_spec("libtpu") else "the package libtpu (pip install 'jaxft[tpu]')"
    if any(find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        return None
    return "JAX's CUDA packages (pip install 'jaxft[cuda]')"


def devices(name: str) -> list[Any]:
    """Descriptions of the chips of a topology, from which a mesh can be made.

    Raises a UserError if their compiler is not installed or does not know the topology.
    """
    chip, count = parse(name)
    if missing := missing_compiler(name):
        raise UserError(f"--topology {name} needs {missing}")
    if chip.maker is None:
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # nothing is executed, so several processes may compile
        wanted: dict[str, Any] = {"platform": "tpu", "topology_name": name}
        wanted |= {"chips_per_host_bounds": (1, 1, 1)} if count == 1 else {}
        wanted |= {"chip_config_name": chip.cores} if chip.cores else {}
    else:
        device = f"{chip.maker} {name.partition(':')[0].upper()}"
        described = _HOPPER.format(name=device, memory=int(chip.memory), bandwidth=int(chip.bandwidth))
        each = min(count, GPUS_OF_A_HOST)
        if count % each:
            raise UserError(f"--topology {name}: hosts have {each} GPUs: give a multiple of {each}, or fewer")
        wanted = {"platform": "cuda", "target_config": described, "topology": f"1x{count // each}x{each}"}
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(**wanted).devices)
    except Exception as error:  # compilers raise various exception types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"--topology {name}: its compiler does not know this topology: {reason}") from error


def predict_step(cost: Cost, chip: Chip, chips: int, rows: int) -> Prediction:
    """The data sheet's bound for a compiled step with `rows` rows over all chips (`Cost` is per chip)."""
    times = {"operations": cost.flops / chip.flops, "memory": cost.accessed / chip.bandwidth, "links": 0.0}
    for x in cost.collectives:
        for name, seconds in _exchange(x, chip, chips).items():
            times[name] = times.get(name, 0.0) + seconds
    # Not all temporary memory grows with the rows, so this is a lower bound.
    most = int(rows * max(0.0, chip.memory - cost.arguments) / max(1, cost.temporary))
    return Prediction(times, times["operations"] / max(times.values()), most)


def hosts(devices: Sequence[int], chip: Chip) -> int:
    """The number of hosts of some devices of a mesh; TPUs, whose links join all chips of a pod, count as one."""
    return len({i // GPUS_OF_A_HOST for i in devices}) if chip.network else 1


def _exchange(x: Collective, chip: Chip, chips: int) -> dict[str, float]:
    """The least seconds that collectives take on each kind of link.

    A chip sends at least all of an array but its own part, and twice that if every chip needs the sum. Between hosts each of
    the n GPUs of a host that take part sends 1 / n of what its host has to send.
    """
    group, size = x.group or range(chips), x.size * (2 if x.kind == "all-reduce" else 1)
    machines = hosts(group, chip)
    inside = len(group) / machines
    found = {"links": size * (1 - 1 / inside) / chip.links}
    return found if machines == 1 else found | {"network": size / inside * (1 - 1 / machines) / chip.network}


def lines(name: str, costs: Sequence[tuple[Any, Cost]]) -> list[str]:
    """Format the predictions, one line per (batch shape, cost)."""
    chip, count = parse(name)
    text = [f"predicted for {count} x {name.partition(':')[0]}, from the compiled programs and the data sheet:"]
    for shape, cost in costs:
        best = predict_step(cost, chip, count, shape.rows)
        memory = cost.arguments + cost.temporary
        fits = "fits" if memory <= chip.memory else "DOES NOT FIT"
        collectives = [f"{x.count} {x.kind} of {x.size / 2**20:,.1f} MiB in all" for x in by_kind(cost.collectives).values()]
        text.append(
            f"  {shape.rows} x {shape.length}: {memory / GIB:.2f} of {chip.memory / GIB:.4g} GiB per chip ({fits}; at least "
            f"{best.rows:,} rows would); collectives: {', '.join(collectives) or 'none'}; at best "
            f"{best.seconds * 1e3:.2f} ms per step, limited by {best.bound}: {best.share:.0%} of the peak"
        )
    return text
