"""Which layers of the student are matched with which of the teacher: rules of `distill.matches` as pairs."""

from collections.abc import Sequence

from jaxft.core.errors import UserError

Pair = tuple[int, int]  # (layer of the student, layer of the teacher), from 1; 0 are the embeddings


def layer_pairs(layers: str | Sequence[Sequence[int]], student: int, teacher: int, where: str) -> list[Pair]:
    """The pairs of a layer map between models of `student` and `teacher` layers.

    `last` is the last layer of both, `last n` the last n of both in order, `every n` layer i and layer n * i (PKD-skip, Sun
    et al. 2019), and `uniform` each layer i of the student with the teacher's at the same part of its depth, rounded to the
    nearest (TinyBERT).

    Args:
      layers: a checked value of `MatchConfig.layers`.
      where: the name of the option, for messages.

    Raises:
      UserError: for a layer that a model does not have.
    """
    if isinstance(layers, str):
        rule, _, number = layers.partition(" ")
        n = int(number or 1)
        if rule == "last":
            pairs = [(student - n + i, teacher - n + i) for i in range(1, n + 1)]
        elif rule == "every":
            pairs = [(i, n * i) for i in range(1, student + 1)]
        else:
            pairs = [(i, (2 * i * teacher + student) // (2 * student)) for i in range(1, student + 1)]
    else:
        pairs = [(ours, theirs) for ours, theirs in layers]
    lowest = 0 if not isinstance(layers, str) else 1
    for pair in pairs:
        for name, layer, count in zip(("student", "teacher"), pair, (student, teacher), strict=True):
            if not lowest <= layer <= count:
                raise UserError(
                    f"{where} is {layers}: needs layer {layer} of the {name}, whose layers are {lowest} to {count}"
                    f"{'' if lowest else ' (0: the embeddings)'}"
                )
    return pairs
