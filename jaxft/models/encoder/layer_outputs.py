"""Which outputs of which layers an encoder is asked for, and how they are collected while its layers run.

An output is named `hidden_states`, for all layers in one array, or `hidden_states.3`, for one layer. Layers count from 1;
layer 0 are the embeddings, which have hidden states only.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp

Array = jax.Array
HIDDEN = "hidden_states"


def layer_output(name: str, layer: int) -> str:
    """The name of an output of one layer."""
    return f"{name}.{layer}"


class LayerOutputs:
    """The outputs that an encoder is asked for, and those of the layers that have run.

    A scan returns an output of all of its layers or of none, so layers that are asked for different outputs of attention are
    run by separate scans: what is not asked for is not computed. Hidden states exist anyway. If a scan is unrolled, it also
    ends at each layer whose hidden states are asked for; a loop goes on, and keeps those of all layers between its ends.

    Args of the constructor:
      asked: names of outputs.
      layers: number of layers, counting each application of a shared one.
    """

    def __init__(self, asked: Collection[str], layers: int) -> None:
        self._asked, self._layers = asked, layers
        self._asked_of_all = HIDDEN in asked
        self._of_layer: dict[int, set[str]] = {layer: set() for layer in range(layers + 1)}
        for output in asked:
            name, _, layer = output.partition(".")
            for number in [int(layer)] if layer else range(layers + 1):
                self._of_layer[number].add(name)
        self._found: dict[tuple[str, int], Array] = {}
        self._stacked: dict[str, list[tuple[range, Array]]] = {}

    def pieces(self, numbers: range, inner: int, *, unrolled: bool) -> Iterator[tuple[range, frozenset[str]]]:
        """Divide a scan over `numbers`, each of which applies `inner` layers: (numbers, outputs) of each part."""
        single = unrolled and not self._asked_of_all
        ends = [n for n in numbers if single and HIDDEN in self._of_layer[(n + 1) * inner]]

        def of_attention(number: int) -> tuple[frozenset[str], int]:
            names = frozenset().union(*(self._of_layer[i] for i in _layers_of(number, inner))) - {HIDDEN}
            return names, sum(end < number for end in ends)

        for (names, _), group in itertools.groupby(numbers, of_attention):
            part = list(group)
            piece = range(part[0], part[-1] + 1)
            between = range(piece.start * inner + 1, piece.stop * inner)
            keeps = any(HIDDEN in self._of_layer[layer] for layer in between)
            yield piece, names | ({HIDDEN} if keeps else frozenset())

    def at(self, layer: int, hidden: Array) -> None:
        """Take the hidden states [B, T, D] above a layer."""
        self._found[HIDDEN, layer] = hidden

    def add(self, numbers: range, inner: int, found: Mapping[str, Array]) -> None:
        """Take the outputs of a scan over `numbers`, arrays [len(numbers), inner, ...]."""
        layers = range(numbers.start * inner + 1, numbers.stop * inner + 1)
        for name, x in found.items():
            self._stacked.setdefault(name, []).append((layers, x.reshape(-1, *x.shape[2:])))

    def result(self) -> dict[str, Array]:
        """The outputs by the names that were asked for."""
        found: dict[str, Array] = {}
        for output in self._asked:
            name, _, layer = output.partition(".")
            if layer:
                found[output] = self._single(name, int(layer))
            elif name == HIDDEN:
                lowest = min(number for key, number in self._found if key == HIDDEN)
                found[output] = jnp.stack([self._single(name, i) for i in range(lowest, self._layers + 1)])
            else:
                found[output] = jnp.concatenate([x for _, x in self._stacked[name]])
        return found

    def _single(self, name: str, layer: int) -> Array:
        if (name, layer) in self._found:
            return self._found[name, layer]
        return next(x[layer - layers.start] for layers, x in self._stacked[name] if layer in layers)


def _layers_of(number: int, inner: int) -> Sequence[int]:
    return range(number * inner + 1, (number + 1) * inner + 1)
