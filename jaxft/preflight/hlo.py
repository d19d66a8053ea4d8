"""Properties of a compiled program, read from its HLO text: collectives, FLOPs, bytes accessed, materialised arrays."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128}
_HEADER = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_ARRAY = re.compile(r"\b(pred|bf16|[sufc]\d+)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|branch_computations|called_computations)=\{?((?:%?[\w.\-]+(?:, )?)+)\}?")
_WHILE = re.compile(r"condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.+?) ([\w\-]+)\((.*)$")
_PLACED = re.compile(r"\b(pred|bf16|[sufc]\d+)\[([\d,]*)\](\{[^}]*\})?")
_SLICES = {"dynamic-slice", "slice", "gather"}
_NO_TRAFFIC = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional", "after-all")
_NO_TRAFFIC += ("copy-done", "slice-done", "all-reduce-done", "all-gather-done", "async-done", "partition-id", "iota")
_ASYNCHRONOUS = {"copy-start": 0, "slice-start": 1}  # the index of the result that holds the data
_CONTRACTED = re.compile(r'"?lhs_contracting_dim(?:ension)?s"?[=:]([{\[][^}\]]*)')
_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_WINDOW = re.compile(r"window=\{([^}]*)\}")
_CONSTANT = re.compile(r"= [su]32\[\][^ ]* constant\((\d+)\)")
_INDEX = re.compile(r"get-tuple-element\(.*index=(\d+)")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_SIGNAL = ("u32", "")  # a result of asynchronous instructions


@dataclass(frozen=True)
class Collective:
    """All collectives of one kind in one execution of a program.

    Attributes:
      kind: one of KINDS.
      count: the number of executions.
      size: total bytes of the full arrays on a device: the results of gathers, the operands of scatters.
    """

    kind: str
    count: int
    size: int


def collectives(text: str) -> list[Collective]:
    """The collectives in a compiled program; those in a loop are counted once per iteration."""
    program = _parse(text)
    executions, fused = _executions(program), _fused(program)
    count: dict[str, int] = defaultdict(int)
    size: dict[str, int] = defaultdict(int)
    channels = set()
    for name, instructions in program.items():
        scatters = name in fused and any(x.operation == "partition-id" for x in instructions.values())
        for x in instructions.values():
            kind = x.operation.removesuffix("-start")
            if kind not in KINDS:
                continue
            if name in fused:  # on TPUs the start, the overlapped work and the end each contain the same collective
                if (channel := (kind, *(_CHANNEL.findall(x.line) or [x.name]))) in channels:
                    continue
                channels.add(channel)
            # TPU programs have no other instruction for a reduce-scatter.
            kind = "reduce-scatter" if scatters and kind == "all-reduce" else kind
            count[kind] += executions[name]
            size[kind] += executions[name] * _transferred_bytes(x, instructions)
    return [Collective(kind, count[kind], size[kind]) for kind in KINDS if count[kind]]


def matmul_flops(text: str) -> int:
    """FLOPs of the matrix products and convolutions in a compiled program; a multiply-add is two.

    XLA's cost analysis counts the body of a loop once, however often it runs, and small operations as often as fusions
    repeat them. Products in kernels that are not HLO (cuDNN's and Pallas') are not counted.
    """
    program = _parse(text)
    executions = _executions(program)
    return sum(executions[name] * _instruction_flops(x, around) for name, around in program.items() for x in around.values())


def materialized_arrays(text: str, wanted: Callable[[str, tuple[int, ...]], bool]) -> list[str]:
    """The arrays, such as `f32[8,12,128,128]`, that are written to memory and for which `wanted(type, shape)` is true.

    Arrays inside a fusion are not written to memory."""
    program = _parse(text)
    fused = _fused(program)
    found: dict[str, None] = {}
    for name, instructions in program.items():
        for x in instructions.values() if name not in fused else ():
            for kind, shape in _ARRAY.findall(x.result):
                if wanted(kind, _dimensions(shape)):
                    found[f"{kind}[{shape}]"] = None
    return list(found)


def bytes_accessed(text: str) -> int:
    """A lower bound on the bytes that a compiled program reads from and writes to memory.

    Every instruction reads its operands once and writes its result once. Slices and in-place updates count with the size of
    the slice; arrays in another memory space (close to the processor) do not count. XLA's cost analysis counts the whole
    array in every iteration of a loop over its slices.
    """
    program = _parse(text)
    executions, fused = _executions(program), _fused(program)
    total = 0
    for name, instructions in program.items():
        for x in instructions.values() if name not in fused else ():
            if x.operation not in _NO_TRAFFIC and "AllocateBuffer" not in x.line:
                total += executions[name] * _instruction_bytes(x, instructions, program)
    return total


@dataclass(frozen=True)
class _Instruction:
    """One line of HLO; `result` is the type of the result. The operand of a parameter is its number."""

    name: str
    result: str
    operation: str
    operands: list[str]
    line: str


_Computation = Mapping[str, _Instruction]


def _transferred_bytes(x: _Instruction, around: _Computation) -> int:
    """Bytes of the operands of a collective, or of its results if these are larger."""
    given = sum(_bytes(around[name].result) for name in x.operands)
    found = sum(_size(*array) for array in _ARRAY.findall(x.result) if array != _SIGNAL)
    if x.operation.endswith("-start") and found > given:  # results follow the operands, except in all-reduce
        found -= given
    return max(given, found)


def _instruction_flops(x: _Instruction, around: _Computation) -> int:
    """FLOPs of the matrix product of an instruction; 0 for other instructions."""
    if x.operation == "convolution":
        return _convolution(x, around)
    if x.operation == "dot" or (x.operation == "custom-call" and "__cublas$" in x.line):
        [contracted] = _CONTRACTED.findall(x.line)[:1]
        left = _shape(around[x.operands[0]].result)
        return 2 * prod(_shape(x.result)) * prod(left[int(i)] for i in re.findall(r"\d+", contracted))
    return 0


def _convolution(x: _Instruction, around: _Computation) -> int:
    """FLOPs of a convolution, as which TPU programs express every product; padding is not counted."""
    [(inputs, kernels, outputs)] = _LABELS.findall(x.line)
    shapes = [_shape(y) for y in (around[x.operands[0]].result, around[x.operands[1]].result, x.result)]
    size = [dict(zip(labels, shape, strict=True)) for labels, shape in zip((inputs, kernels, outputs), shapes, strict=True)]
    window = dict(re.findall(r"(\w+)=([\w\-]+)", _WINDOW.findall(x.line)[0])) if "window={" in x.line else {}
    total = size[2]["b"] * size[2]["f"] * size[1]["i"]
    for i, dimension in enumerate(sorted(set(kernels) - {"i", "o"})):
        part = {name: value.split("x")[i] for name, value in window.items()}
        stride, spread, dilation = (int(part.get(name, 1)) for name in ("stride", "rhs_dilate", "lhs_dilate"))
        low = int(part.get("pad", "0_0").split("_")[0])
        place = np.arange(size[2][dimension])[:, None] * stride - low + np.arange(size[1][dimension]) * spread
        inside = (place >= 0) & (place <= (size[0][dimension] - 1) * dilation) & (place % dilation == 0)
        total *= int(inside.sum())
    return 2 * total


def _instruction_bytes(x: _Instruction, around: _Computation, program: Mapping[str, _Computation]) -> int:
    """Bytes that an instruction reads and writes."""
    if x.operation in _ASYNCHRONOUS:  # the results include the source
        kind, shape, layout = _PLACED.findall(x.result)[_ASYNCHRONOUS[x.operation]]
        return _size(kind, shape) * (("S(" not in layout) + ("S(" not in around[x.operands[0]].result))
    inside = {x.name: x} if x.operation != "fusion" else program[_called(x.line)[0]]
    moved = _in_memory(x.result)
    for i, operand in enumerate(x.operands):
        if size := _in_memory(around[operand].result):
            moved += min(size, _read(operand if x.operation != "fusion" else _parameter(inside, i), size, inside, program))
    written = {array[:2] for array in _PLACED.findall(x.result) if "S(" not in array[2]}
    for y, body in _nested(x, around, program):
        if y.operation == "dynamic-update-slice" and _PLACED.findall(y.result)[0][:2] in written:
            moved -= _bytes(y.result) - _bytes(body[y.operands[1]].result)  # only the slice is written
    return moved


def _read(name: str, size: int, inside: _Computation, program: Mapping[str, _Computation]) -> int:
    """Bytes that a computation reads from one of its arrays of `size` bytes; more if it reads several parts."""
    total = 0
    for y in inside.values():
        if name not in y.operands:
            continue
        if y.operation == "fusion":
            body = program[_called(y.line)[0]]
            places = [i for i, operand in enumerate(y.operands) if operand == name]
            total += sum(_read(_parameter(body, i), size, body, program) for i in places)
        elif y.operation == "bitcast":
            total += _read(y.name, size, inside, program)
        elif y.operands.index(name) or y.operation not in (*_SLICES, "dynamic-update-slice"):
            total += size
        elif y.operation in _SLICES:
            total += _bytes(y.result)
    return total


def _parameter(computation: _Computation, number: int) -> str:
    return next(y.name for y in computation.values() if y.operation == "parameter" and y.operands[0] == str(number))


def _nested(
    x: _Instruction, around: _Computation, program: Mapping[str, _Computation]
) -> Iterator[tuple[_Instruction, _Computation]]:
    """Yield (instruction, its computation); for a fusion, all instructions inside it."""
    if x.operation != "fusion":
        yield x, around
        return
    body = program[_called(x.line)[0]]
    for y in body.values():
        yield from _nested(y, body, program)


def _in_memory(result: str) -> int:
    """Bytes of the arrays of a type that are in main memory."""
    return sum(_size(kind, shape) for kind, shape, layout in _PLACED.findall(result) if "S(" not in layout)


def _shape(result: str) -> tuple[int, ...]:
    """The shape of the first array of a type."""
    [(_, shape)] = _ARRAY.findall(result)[:1]
    return _dimensions(shape)


def _dimensions(shape: str) -> tuple[int, ...]:
    return tuple(map(int, shape.split(","))) if shape else ()


def _bytes(result: str) -> int:
    return sum(_size(*array) for array in _ARRAY.findall(result))


def _parse(text: str) -> dict[str, dict[str, _Instruction]]:
    """Parse HLO text into computations by name, each a dict of instructions by name."""
    found: dict[str, dict[str, _Instruction]] = {}
    instructions: dict[str, _Instruction] = {}
    for line in text.splitlines():
        if header := _HEADER.match(line):
            instructions = found[header[1]] = {}
        elif match := _INSTRUCTION.match(line):
            name, result, operation, rest = match.groups()
            inside = rest.partition(")")[0]
            operands = [inside] if operation == "parameter" else re.findall(r"%([\w.\-]+)", inside)
            instructions[name] = _Instruction(name, result, operation, operands, line)
    return found


def _fused(program: Mapping[str, _Computation]) -> set[str]:
    """The names of the computations inside fusions."""
    every = (x for instructions in program.values() for x in instructions.values())
    return {name for x in every if x.operation == "fusion" for name in _called(x.line)}


def _executions(program: Mapping[str, _Computation]) -> dict[str, int]:
    """The number of executions of each computation in one execution of the program."""
    callers: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for caller, name, times in _calls(program):
        callers[name].append((caller, times))
    known: dict[str, int] = {}

    def executions(name: str) -> int:
        if name not in known:
            known[name] = sum(executions(caller) * times for caller, times in callers[name]) or 1
        return known[name]

    return {name: executions(name) for name in program}


def _calls(program: Mapping[str, _Computation]) -> Iterator[tuple[str, str, int]]:
    for caller, instructions in program.items():
        for x in instructions.values():
            if loop := _WHILE.search(x.line):
                known = _TRIPS.search(x.line)
                yield caller, loop[2], int(known[1]) if known else _counted(program[loop[1]], program[loop[2]])
            for name in _called(x.line):
                yield caller, name, 1


def _counted(condition: _Computation, body: _Computation) -> int:
    """The trip count of a loop without `known_trip_count`: it counts from 0 to the only constant of its condition."""
    ends = [int(n) for y in condition.values() for n in _CONSTANT.findall(y.line)]
    if len(ends) != 1:
        return 1
    places = [int(n) for y in condition.values() for n in _INDEX.findall(y.line)]
    [result] = [y for y in body.values() if y.line.lstrip().startswith("ROOT")]
    counter = body.get(result.operands[places[0]]) if places and result.operation == "tuple" else None
    added = counter.operands if counter and counter.operation == "add" else []
    steps = [int(n) for name in added if name in body for n in _CONSTANT.findall(body[name].line)]
    return -(-ends[0] // (steps[0] if steps else 1))


def _called(line: str) -> list[str]:
    return [name.strip().lstrip("%") for group in _CALLED.findall(line) for name in group.split(",")]


def _size(kind: str, shape: str) -> int:
    bits = _BITS.get(kind) or int(kind[1:])
    return prod(_dimensions(shape)) * bits // 8
