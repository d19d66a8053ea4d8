"""Damaged copies of a file's bytes, chosen by a seed: bits flipped, pieces cut, doubled, inserted or swapped, bad values."""

import copy
import json
import random
import re
from typing import Any

DEEP = 100_000
# What breaks parsers: long numbers, deep nesting, lone surrogates, odd encodings, other kinds of values.
TOKENS = [
    *(b"", b'"', b"'", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"\t", b" ", b"\\", b"#", b"&a ", b"*a", b"- "),
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", "é😀".encode(), b"\xe2\x80\xa8"),
    *(b"0", b"-1", b"1.0", b"1e999", b"-1e999", b"NaN", b"Infinity", b"null", b"true", b"18446744073709551616"),
    *(b"1e5000000", b"9" * 5000, b"0x" + b"f" * 5000, b"x" * 10_000, b"[" * DEEP, b'{"a":' * 1000),
    *(b"(a+)+$", b"../../etc/passwd", b"/dev/zero"),
]
VALUES: list[Any] = [
    *(None, True, 0, -1, 1, 2, 0.5, 10**9, 10**30, 1e300, float("nan"), float("inf"), "", "a", "\ud800", "é", "\0"),
    *("x" * 10_000, "9" * 5000, [], [0], ["a"], [None], [[]], [1e9] * 100, {}, {"a": 1}, {"0": "a"}, "../x", "/x", "(a+)+$"),
]
NUMBERS = re.compile(rb"\d+")
WORDS = re.compile(rb"[\w.-]+")


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A copy with one to three faults."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice(_FAULTS)(content, rng)
    return content


def damaged_json(content: bytes, rng: random.Random) -> bytes:
    """`damaged`, or half of the time the document with one to three values or names changed, removed or added."""
    if rng.random() < 0.5:
        return damaged(content, rng)
    document = [json.loads(content)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        positions = list(_positions(document))
        holder, key = rng.choice(positions)
        if key not in (holder if isinstance(holder, dict) else range(len(holder))):
            continue
        kind = rng.random()
        if kind < 0.7:
            holder[key] = copy.deepcopy(rng.choice([*VALUES, _twist(holder[key], rng), _twist(holder[key], rng)]))
        elif kind < 0.85 and holder is not document:
            del holder[key]
        elif isinstance(holder, dict):
            holder[str(rng.choice(VALUES))] = holder.pop(key)
        elif holder is not document:
            holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(rng.choice(holder)))
    return json.dumps(document[0]).encode()


def _positions(value: Any) -> Any:
    for key in range(len(value)) if isinstance(value, list) else value:
        yield value, key
        if isinstance(value[key], list | dict):
            yield from _positions(value[key])


def _twist(value: Any, rng: random.Random) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, -value, value * 10, value * 10**6, 10**12, 2**31, 2**63))
    if isinstance(value, float):
        return rng.choice((value * 1e10, -value, value + 1))
    if isinstance(value, str):
        return rng.choice((value + "x", value[1:], value * 1000, value.upper()))
    return value * 2 if isinstance(value, list) else [value]


def _flip(content: bytes, rng: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if found else 0):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _other_bytes(content: bytes, rng: random.Random) -> bytes:
    at, size = _span(content, rng)
    return content[:at] + rng.choice((rng.randbytes(size), b"\0" * size, b"\xff" * size)) + content[at + size :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    at, size = _span(content, rng)
    return content[:at] + content[at + size :]


def _end(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _double(content: bytes, rng: random.Random) -> bytes:
    at, size = _span(content, rng)
    return content[:at] + content[at : at + size] * rng.choice((2, 2, 3, 100)) + content[at + size :]


def _insert(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(TOKENS) + content[at:]


def _replace(content: bytes, rng: random.Random) -> bytes:
    found = list(rng.choice((NUMBERS, WORDS)).finditer(content))
    if not found:
        return _insert(content, rng)
    old = rng.choice(found)
    return content[: old.start()] + rng.choice(TOKENS) + content[old.end() :]


def _exchange(content: bytes, rng: random.Random) -> bytes:
    found = list(WORDS.finditer(content))
    if len(found) < 2:
        return _flip(content, rng)
    a, b = sorted(rng.sample(found, 2), key=lambda m: m.start())
    return content[: a.start()] + b[0] + content[a.end() : b.start()] + a[0] + content[b.end() :]


def _span(content: bytes, rng: random.Random) -> tuple[int, int]:
    at = rng.randrange(len(content) + 1)
    return at, min(len(content) - at, int(rng.choice((1, 2, 4, 16, 256, len(content) / 4)) or 1))


_FAULTS = (_flip, _flip, _other_bytes, _cut, _end, _double, _insert, _replace, _replace, _exchange)
