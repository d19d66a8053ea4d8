"""What a compiled program says of itself in its HLO text: collectives with their bytes, and arrays of a given kind."""

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
            if found[3] and found[2] != "all-reduce":  # operands stand before the results
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
