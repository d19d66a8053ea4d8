"""Which devices a collective exchanges between, from the attribute `replica_groups` of its instruction."""

import re
from math import prod

import numpy as np

_LIST = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}")
_AXIS = re.compile(r"'([^']+)'=(\d+)")
_PART = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?")


def first_group(attributes: str) -> tuple[int, ...]:
    """The devices of the first group, by their numbers in the mesh; the others are like it.

    () are all devices, as in a program that does not say it. The three notations are lists, `[groups,devices]<=[shape]` with
    an optional transposition, and the axes of a mesh, of which `'name':(p)s` is the part of size s after parts of size p.
    """
    if found := _LIST.search(attributes):
        return _numbers(found[1])
    if found := _IOTA.search(attributes):
        shape, order = _numbers(found[2]), _numbers(found[3] or "")
        ids = np.arange(prod(shape)).reshape(shape)
        return tuple((ids.transpose(order) if order else ids).reshape(_numbers(found[1]))[0].tolist())
    if found := _MESH.search(attributes):
        axes = {name: int(size) for name, size in _AXIS.findall(found[1])}
        inside = {name: [0] for name in axes}  # the coordinates of the group's devices
        for name, before, size in _PART.findall(found[2]):
            count = int(size or axes[name])
            stride = axes[name] // (int(before or 1) * count)
            inside[name] = [i + step * stride for step in range(count) for i in inside[name]]
        ids = np.arange(prod(axes.values())).reshape(tuple(axes.values()))
        return tuple(np.sort(ids[np.ix_(*inside.values())], axis=None).tolist())
    return ()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(","))) if text else ()
