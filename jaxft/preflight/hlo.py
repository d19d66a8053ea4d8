"""Properties of a compiled program: collectives, FLOPs, bytes accessed, materialised arrays."""

# Why programs are read from their text, by measurement (jax 0.10):
# - XLA's own analysis counts the body of a loop once: 365 of 4,291 GFLOP for a step of BERT base on v5e. It also counts
#   elementwise operations, and the memory close to a TPU's processor: 5.0 instead of 1.5 GB for one layer.
# - The jaxpr has the same products only if the platform's branches are chosen and dead code is eliminated, and even then
#   8 % more for a plan (last_n) in which XLA eliminates more. It has no collectives, and takes as many lines.
# - The HLO proto gives the same figures, but jaxlib has no reader for it (its HloInstruction has neither shapes nor
#   attributes): about 45 numbers of undocumented fields would replace the patterns.

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod

import numpy as np

from jaxft.preflight.hlo_text import Instruction, read
from jaxft.preflight.replica_groups import first_group

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_DEVICES = re.compile(r"^HloModule .*\bnum_partitions=(\d+)")
_CHANNEL = re.compile(r"channel_id=\d+")
_CONTRACTED = re.compile(r'"?lhs_contracting_dim(?:ension)?s"?[=:]([{\[][^}\]]*)')
_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_WINDOW = re.compile(r"window=\{([^}]*)\}")
_SLICES = ("dynamic-slice", "slice", "gather")
_NO_TRAFFIC = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional", "after-all")
_NO_TRAFFIC += ("copy-done", "slice-done", "all-reduce-done", "all-gather-done", "async-done", "partition-id", "iota")
_ASYNCHRONOUS = {"copy-start": 0, "slice-start": 1}  # the index of the result that holds the data


@dataclass(frozen=True)
class Collective:
    """All collectives of one kind between the same devices in one execution of a program.

    Attributes:
      kind: one of KINDS.
      count: the number of executions.
      size: total bytes of the full arrays on a device: the results of gathers, the operands of scatters.
      group: the devices that exchange, of the first such group; () are all devices.
    """

    kind: str
    count: int
    size: int
    group: tuple[int, ...] = ()


def collectives(text: str) -> list[Collective]:
    """The collectives in a compiled program, in the order of KINDS; those in a loop are counted once per iteration."""
    program = read(text)
    found = _DEVICES.search(text)
    everyone = tuple(range(int(found[1]))) if found else ()
    count: Counter[tuple[str, tuple[int, ...]]] = Counter()
    size: Counter[tuple[str, tuple[int, ...]]] = Counter()
    scatters = {x.computation for x in program if x.is_fused and x.operation == "partition-id"}
    channels = set()
    for x in program:
        kind = x.operation.removesuffix("-start")
        if kind not in KINDS:
            continue
        if x.is_fused:  # on TPUs the start, the overlapped work and the end each contain the same collective
            found = _CHANNEL.search(x.attributes)
            channel = (kind, found[0] if found else x)
            if channel in channels:
                continue
            channels.add(channel)
        if kind == "all-reduce" and x.computation in scatters:  # TPU programs have no other instruction for it
            kind = "reduce-scatter"
        group = first_group(x.attributes)
        among = kind, () if group == everyone else group
        count[among] += x.executions
        size[among] += x.executions * _transferred_bytes(x)
    each = sorted(count, key=lambda x: (KINDS.index(x[0]), x[1]))
    return [Collective(kind, count[kind, group], size[kind, group], group) for kind, group in each]


def by_kind(found: Iterable[Collective]) -> dict[str, Collective]:
    """The collectives of each kind, whichever devices they are between."""
    kinds: dict[str, Collective] = {}
    for x in found:
        before = kinds.get(x.kind, Collective(x.kind, 0, 0))
        kinds[x.kind] = Collective(x.kind, before.count + x.count, before.size + x.size)
    return kinds


def matmul_flops(text: str) -> int:
    """FLOPs of the matrix products and convolutions in a compiled program; a multiply-add is two.

    Products in kernels that are not HLO (cuDNN's and Pallas') are not counted.
    """
    return sum(x.executions * _flops(x) for x in read(text))


def materialized_arrays(text: str, wanted: Callable[[str, tuple[int, ...]], bool]) -> list[str]:
    """The arrays, such as `f32[8,12,128,128]`, that are written to memory and for which `wanted(type, shape)` is true."""
    arrays = [array for x in read(text) if not x.is_fused for array in x.results]
    found = (f"{x.kind}[{','.join(map(str, x.shape))}]" for x in arrays if wanted(x.kind, x.shape))
    return list(dict.fromkeys(found))


def bytes_accessed(text: str) -> int:
    """A lower bound on the bytes that a compiled program reads from and writes to main memory.

    Every instruction reads its operands once and writes its result once. Slices and in-place updates count with the size of
    the slice; arrays in another memory space (close to the processor) do not count.
    """
    return sum(x.executions * _bytes(x) for x in read(text) if not x.is_fused)


def _transferred_bytes(x: Instruction) -> int:
    """Bytes of the operands of a collective, or of its results if these are larger."""
    operands = sum(array.bytes for operand in x.operands for array in operand.results)
    results = sum(array.bytes for array in x.results if (array.kind, array.shape) != ("u32", ()))  # that is a signal
    if x.operation.endswith("-start") and results > operands:  # the results include the operands, except in all-reduce
        results -= operands
    return max(operands, results)


def _flops(x: Instruction) -> int:
    """FLOPs of the matrix product of an instruction; 0 for other instructions."""
    if x.operation == "convolution":
        return _convolution_flops(x)
    if x.operation == "dot" or (x.operation == "custom-call" and "__cublas$" in x.attributes):
        [contracted] = _CONTRACTED.findall(x.attributes)[:1]
        left = x.operands[0].results[0].shape
        return 2 * prod(x.results[0].shape) * prod(left[int(i)] for i in re.findall(r"\d+", contracted))
    return 0


def _convolution_flops(x: Instruction) -> int:
    """FLOPs of a convolution, which is how TPU programs express products; padding is not counted."""
    [labels] = _LABELS.findall(x.attributes)
    arrays = (x.operands[0].results[0], x.operands[1].results[0], x.results[0])
    inputs, kernels, outputs = (dict(zip(own, a.shape, strict=True)) for own, a in zip(labels, arrays, strict=True))
    window = dict(re.findall(r"(\w+)=([\w\-]+)", "".join(_WINDOW.findall(x.attributes))))
    products = outputs["b"] * outputs["f"] * kernels["i"]
    for i, dimension in enumerate(sorted(kernels.keys() - {"i", "o"})):
        own = {name: value.split("x")[i] for name, value in window.items()}
        stride, spread, dilation = (int(own.get(name, 1)) for name in ("stride", "rhs_dilate", "lhs_dilate"))
        low = int(own.get("pad", "0_0").split("_")[0])
        index = np.arange(outputs[dimension])[:, None] * stride - low + np.arange(kernels[dimension]) * spread
        inside = (index >= 0) & (index <= (inputs[dimension] - 1) * dilation) & (index % dilation == 0)
        products *= int(inside.sum())
    return 2 * products


def _bytes(x: Instruction) -> int:
    """Bytes that an instruction reads from main memory and writes to it."""
    if x.operation in _NO_TRAFFIC or "AllocateBuffer" in x.attributes:
        return 0
    if x.operation in _ASYNCHRONOUS:
        data, source = x.results[_ASYNCHRONOUS[x.operation]], x.operands[0].results[0]
        return data.bytes * (data.in_main_memory + source.in_main_memory)
    total = x.main_memory
    for i, operand in enumerate(x.operands):
        if size := operand.main_memory:
            total += min(size, _read(x, i, size))
    written = {array[:2] for array in x.results if array.in_main_memory}
    for y in _nested(x):
        if y.operation == "dynamic-update-slice" and y.results[0][:2] in written:
            total -= y.results[0].bytes - y.operands[1].results[0].bytes  # only the slice is written
    return total


def _read(x: Instruction, i: int, size: int) -> int:
    """Bytes that an instruction reads of its operand number `i`, of `size` bytes; more if it reads several parts."""
    if x.operation == "fusion":
        return sum(_read_by_uses(y, size) for y in x.inside if y.operation == "parameter" and y.number == i)
    if x.operation == "bitcast":
        return _read_by_uses(x, size)
    if i == 0 and x.operation in _SLICES:
        return x.results[0].bytes
    return 0 if i == 0 and x.operation == "dynamic-update-slice" else size


def _read_by_uses(source: Instruction, size: int) -> int:
    return sum(_read(x, i, size) for x, i in source.uses)


def _nested(x: Instruction) -> list[Instruction]:
    """The instruction; of a fusion, all instructions inside it and inside its fusions."""
    return [z for y in x.inside for z in _nested(y)] if x.operation == "fusion" else [x]
