"""Read the instructions of a compiled program from its HLO text."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache, lru_cache
from math import prod
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.+?) ([\w\-]+)\(([^)]*)\)(.*)$")
_ARRAY = re.compile(r"\b(pred|bf16|[sufc]\d+)\[([\d,]*)\](\{[^}]*\})?")
_CALLED = re.compile(r"(?:calls|to_apply|branch_computations|called_computations)=\{?((?:%?[\w.\-]+(?:, )?)+)\}?")
_WHILE = re.compile(r"condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_INDEX = re.compile(r"index=(\d+)")
_BITS = {"pred": 8, "bf16": 16}  # of the types whose names do not end with it


class Array(NamedTuple):
    """The type (such as f32) and shape of an array, and whether it is in main memory, not close to the processor."""

    kind: str
    shape: tuple[int, ...]
    in_main_memory: bool

    @property
    def bytes(self) -> int:
        """The size in memory."""
        return prod(self.shape) * (_BITS.get(self.kind) or int(self.kind[1:])) // 8


@dataclass(eq=False)
class Instruction:
    """An instruction of a computation."""

    operation: str  # such as dot, fusion or while
    results: list[Array]  # several for a tuple
    operands: list["Instruction"]
    number: int | None  # of a parameter, or the value of an integer constant
    attributes: str  # the text after the operands
    computation: str  # its name
    uses: list[tuple["Instruction", int]] = field(default_factory=list)  # (instruction, position among its operands)
    inside: list["Instruction"] = field(default_factory=list)  # of a fusion
    is_fused: bool = False  # inside a fusion, so that its results are not in memory
    executions: int = 1  # in one execution of the program

    @property
    def main_memory(self) -> int:
        """Bytes of the results that are in main memory."""
        return sum(x.bytes for x in self.results if x.in_main_memory)


@lru_cache(maxsize=1)  # for several questions about one program
def read(text: str) -> list[Instruction]:
    """All instructions of a compiled program, in the order of the text."""
    program: dict[str, list[Instruction]] = {}
    roots: dict[str, Instruction] = {}
    computation, known = "", {}
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            computation, known = header[1], {}
            program[computation] = []
        elif match := _INSTRUCTION.match(line):
            root, name, result, operation, inside, attributes = match.groups()
            operands = [known[operand] for operand in re.findall(r"%([\w.\-]+)", inside)]
            number = int(inside) if inside.isdigit() else None
            x = known[name] = Instruction(operation, _arrays(result), operands, number, attributes, computation)
            for i, operand in enumerate(operands):
                operand.uses.append((x, i))
            program[computation].append(x)
            if root:
                roots[computation] = x
    everything = [x for instructions in program.values() for x in instructions]
    callers: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for x in everything:
        called = [name.strip().lstrip("%") for group in _CALLED.findall(x.attributes) for name in group.split(",")]
        for name in called:
            callers[name].append((x.computation, 1))
        if x.operation == "fusion":
            x.inside = program[called[0]]
            for y in x.inside:
                y.is_fused = True
        elif x.operation == "while":
            [(condition, body)] = _WHILE.findall(x.attributes)
            trips = _TRIPS.search(x.attributes)
            callers[body].append((x.computation, int(trips[1]) if trips else _trips(program[condition], roots[body])))

    @cache
    def executions(name: str) -> int:
        return sum(executions(caller) * times for caller, times in callers[name]) or 1

    for x in everything:
        x.executions = executions(x.computation)
    return everything


def _arrays(result: str) -> list[Array]:
    return [
        Array(kind, tuple(map(int, shape.split(","))) if shape else (), "S(" not in layout)
        for kind, shape, layout in _ARRAY.findall(result)
    ]


def _trips(condition: list[Instruction], root: Instruction) -> int:
    """The iterations of a loop on TPUs, whose count is not known: from 0 to the only constant of its condition."""
    ends = _constants(condition)
    if len(ends) != 1:
        return 1
    counters = [int(_INDEX.findall(x.attributes)[0]) for x in condition if x.operation == "get-tuple-element"]
    counter = root.operands[counters[0]] if counters and root.operation == "tuple" else root
    steps = _constants(counter.operands) if counter.operation == "add" else []
    return -(-ends[0] // (steps[0] if steps else 1))


def _constants(instructions: list[Instruction]) -> list[int]:
    """The values of the scalar integer constants among instructions."""
    constants = [x for x in instructions if x.operation == "constant" and x.results[0][:2] in (("s32", ()), ("u32", ()))]
    return [x.number for x in constants if x.number is not None]
