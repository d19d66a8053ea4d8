"""What a compiled program says of itself in its HLO text: collectives with their bytes, traffic, arrays of a given kind."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128}
_HEADER = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_ARRAY = re.compile(r"\b(pred|bf16|[sufc]\d+)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|branch_computations|called_computations)=\{?((?:%?[\w.\-]+(?:, )?)+)\}?")
_WHILE = re.compile(r"condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.+?) ([\w\-]+)\((.*)$")
_PLACED = re.compile(r"\b(pred|bf16|[sufc]\d+)\[([\d,]*)\](\{[^}]*\})?")
_SLICES = ("dynamic-slice", "slice", "gather")
_NO_TRAFFIC = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional", "after-all")
_NO_TRAFFIC += ("copy-done", "all-reduce-done", "all-gather-done", "async-done", "partition-id", "iota")
_CONSTANT = re.compile(r"= s32\[\][^ ]* constant\((\d+)\)")


@dataclass(frozen=True)
class Collective:
    """One kind of exchange between devices in one run of a program.

    Attributes:
      kind: one of KINDS.
      count: how often it runs.
      size: bytes of its results on a device, over all of these.
    """

    kind: str
    count: int
    size: int


def collectives(text: str) -> list[Collective]:
    """Exchanges in a compiled program; those in a loop are counted as often as it turns."""
    computations = _computations(text)
    turns = _turns(computations)
    count: dict[str, int] = defaultdict(int)
    size: dict[str, int] = defaultdict(int)
    for name, lines in computations.items():
        for line in lines:
            found = re.search(rf" = (.+?) ({'|'.join(KINDS)})(-start)?\(", line)
            if found is None:
                continue
            arrays = [_size(*array) for array in _ARRAY.findall(found[1])]
            # Operands stand before the results; an all-reduce has them on GPUs alone, each as a tuple of its own.
            if found[3] and (found[2] != "all-reduce" or found[1].startswith("((")):
                arrays = arrays[len(arrays) // 2 :]
            count[found[2]] += turns[name]
            size[found[2]] += turns[name] * sum(arrays)
    return [Collective(kind, count[kind], size[kind]) for kind in KINDS if count[kind]]


def arrays(text: str, wanted: Callable[[str, tuple[int, ...]], bool]) -> list[str]:
    """Arrays such as `f32[8,12,128,128]` that are written to memory (not those inside a fusion) and for which `wanted`
    (type, shape) holds."""
    computations = _computations(text)
    inside = {name for lines in computations.values() for line in lines if " fusion(" in line for name in _called(line)}
    found: dict[str, None] = {}
    for name, lines in computations.items():
        for line in [] if name in inside else lines:
            result = line.partition(" = ")[2].partition("(")[0] if " = (" not in line else line.partition(") ")[0]
            for kind, shape in _ARRAY.findall(result):
                if wanted(kind, tuple(map(int, shape.split(","))) if shape else ()):
                    found[f"{kind}[{shape}]"] = None
    return list(found)


@dataclass(frozen=True)
class _Instruction:
    result: str  # type
    operation: str
    operands: list[str]


def traffic(text: str) -> int:
    """Bytes that a compiled program reads from memory and writes to it, at least.

    Every instruction reads its operands once and writes its result once; what is sliced out of an array, or written into
    its place, counts by its own size, and what the compiler keeps close to the processor (another memory space) not at all.
    XLA's own count takes the whole array for each turn of a loop over slices of it.
    """
    lines_of = _computations(text)
    turns, computations = _turns(lines_of), {name: _instructions(lines) for name, lines in lines_of.items()}
    fusions = [line for lines in lines_of.values() for line in lines if " fusion(" in line]
    bodies = {match[1]: _called(line)[0] for line in fusions if (match := _INSTRUCTION.match(line))}
    fused = set(bodies.values())
    total = 0
    for name, own in computations.items():
        for key, instruction in own.items() if name not in fused else ():
            if instruction.operation not in _NO_TRAFFIC:
                body = computations.get(bodies.get(key, ""), {})
                total += turns[name] * _moved(instruction, own, body)
    return total


def _moved(instruction: _Instruction, around: Mapping[str, _Instruction], body: Mapping[str, _Instruction]) -> int:
    """Bytes of an instruction; `body` is what a fusion computes."""
    operands = [around[name].result if name in around else "" for name in instruction.operands]
    if not body:
        body = {str(i): _Instruction(result, "parameter", [str(i)]) for i, result in enumerate(operands)}
        body["root"] = _Instruction(instruction.result, instruction.operation, [str(i) for i in range(len(operands))])
    parameters = {x.operands[0]: name for name, x in body.items() if x.operation == "parameter" and x.operands}
    read = 0
    for i, result in enumerate(operands):
        name = parameters.get(str(i), "")
        users = [x for x in body.values() if name in x.operands and x.operation != "parameter"]
        if users and all(x.operation in _SLICES and x.operands[0] == name for x in users):
            read += 0 if _elsewhere(result) else sum(_in_memory(x.result) for x in users)
        elif users and all(x.operation == "dynamic-update-slice" and x.operands[0] == name for x in users):
            continue
        else:
            read += _in_memory(result)
    updates = [x for x in body.values() if x.operation == "dynamic-update-slice" and _ARRAY.findall(x.result)]
    written = _in_memory(instruction.result)
    for x in updates:
        if _ARRAY.findall(x.result)[0] in _ARRAY.findall(instruction.result) and not _elsewhere(instruction.result):
            new = body[x.operands[1]].result if x.operands[1] in body else ""
            written -= _plain_size(x.result) - _plain_size(new)
    return read + max(0, written)


def _instructions(lines: list[str]) -> dict[str, _Instruction]:
    """Name -> instruction; the operand of a parameter is its number."""
    found = {}
    for line in lines:
        if match := _INSTRUCTION.match(line):
            inside = match[4].partition(")")[0]
            operands = [inside] if match[3] == "parameter" else re.findall(r"%([\w.\-]+)", inside)
            found[match[1]] = _Instruction(match[2], match[3], operands)
    return found


def _in_memory(result: str) -> int:
    """Bytes of the arrays of a type that lie in main memory."""
    return sum(_size(kind, shape) for kind, shape, layout in _PLACED.findall(result) if "S(" not in layout)


def _plain_size(result: str) -> int:
    return sum(_size(*array) for array in _ARRAY.findall(result))


def _elsewhere(result: str) -> bool:
    return "S(" in result


def _computations(text: str) -> dict[str, list[str]]:
    """Name -> instructions."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if header := _HEADER.match(line):
            lines = found[header[1]] = []
        elif line.startswith("  "):
            lines.append(line)
    return found


def _turns(computations: Mapping[str, list[str]]) -> dict[str, int]:
    """How often each computation runs in one run of the program."""
    callers: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for caller, name, times in _calls(computations):
        callers[name].append((caller, times))
    known: dict[str, int] = {}

    def turns(name: str) -> int:
        if name not in known:
            known[name] = sum(turns(caller) * times for caller, times in callers[name]) or 1
        return known[name]

    return {name: turns(name) for name in computations}


def _calls(computations: Mapping[str, list[str]]) -> Iterator[tuple[str, str, int]]:
    for caller, lines in computations.items():
        for line in lines:
            if loop := _WHILE.search(line):
                known = _TRIPS.search(line)
                # Without the compiler's word a counted loop ends at the one constant of its condition.
                ends = _CONSTANT.findall("\n".join(computations.get(loop[1], [])))
                yield caller, loop[2], int(known[1]) if known else int(ends[0]) if len(ends) == 1 else 1
            for name in _called(line):
                yield caller, name, 1


def _called(line: str) -> list[str]:
    return [name.strip().lstrip("%") for group in _CALLED.findall(line) for name in group.split(",")]


def _size(kind: str, shape: str) -> int:
    bits = _BITS.get(kind) or int(kind[1:])
    return prod(map(int, shape.split(","))) * bits // 8 if shape else bits // 8
