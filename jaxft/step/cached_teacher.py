"""A teacher whose outputs are columns of the batch: it ran once, before training, and the step does not contain it.

What is kept of its outputs is a list of `StoredOutput`, each of which knows how to store an output and to restore it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.core.tree import Params
from jaxft.models.encoder.layer_outputs import HIDDEN
from jaxft.models.model import MAIN, Model
from jaxft.parallel import sharding
from jaxft.step.distillation import TEACHER, TeacherOutputs
from jaxft.step.parameters import Parameters
from jaxft.step.train_step import Batch, Outputs

Array = jax.Array
Per = Literal["example", "token"]
LOGITS = "logits"
_LABELS, _REST = ".labels", ".rest"  # endings of the columns beside those of the largest logits


@dataclass(frozen=True)
class Column:
    """A column of the batch.

    Attributes:
      per: what has a value.
      shape: of one value.
      dtype: of its numbers.
    """

    per: Per
    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class StoredOutput:
    """An output of the teacher, and how it is stored.

    Attributes:
      name: of the output.
      per: whether it is [R, M * group, ...], of sequences, or [R, T, ...], of tokens.
      shape: of one example with its `group` sequences (first axis, if there are several), or of one token.
      group: sequences per example.
      keep: how many of its largest logits are kept; None keeps all.
      dtype: in which it is stored.
    """

    name: str
    per: Per
    shape: tuple[int, ...]
    group: int = 1
    keep: int | None = None
    dtype: str = "float32"

    @property
    def columns(self) -> Mapping[str, Column]:
        """The columns by name, which begin with the output's."""
        whole = Column(self.per, self.shape, np.dtype(self.dtype))
        if self.keep is None:
            return {self.name: whole}
        smallest = np.int16 if self.shape[-1] <= np.iinfo(np.int16).max else np.int32
        kept = (*self.shape[:-1], self.keep)
        return {
            self.name: Column(self.per, kept, whole.dtype),
            self.name + _LABELS: Column(self.per, kept, np.dtype(smallest)),
            self.name + _REST: Column(self.per, self.shape[:-1], whole.dtype),
        }

    def store(self, output: Array) -> dict[str, Array]:
        """The columns of an output: [R, M, ...] or [R, T, ...] each.

        With `keep` of C logits, these are the largest logits, the numbers of their labels, and the logarithm of the mean
        exponential of the others, with which all C - `keep` others are restored: the kept labels then have the same
        probabilities as with all logits.
        """
        if self.group > 1 and self.per == "example":
            output = output.reshape(output.shape[0], -1, *self.shape)
        if self.keep is None:
            return {self.name: output.astype(self.dtype)}
        largest, labels = jax.lax.top_k(output, self.keep)
        at = jax.nn.one_hot(labels, output.shape[-1], dtype=bool).any(-2)
        others = output.shape[-1] - self.keep
        rest = jax.nn.logsumexp(jnp.where(at, -jnp.inf, output), axis=-1) - np.log(others)
        labels = labels.astype(self.columns[self.name + _LABELS].dtype)
        return {self.name: largest, self.name + _LABELS: labels, self.name + _REST: rest}

    def restore(self, batch: Mapping[str, Array]) -> Array:
        """The output for a micro-batch that has the columns, as the teacher gives it, in float32."""
        stored = batch[self.name].astype(jnp.float32)
        if self.keep is not None:
            labels = batch[self.name + _LABELS].astype(jnp.int32)
            rest = jnp.broadcast_to(batch[self.name + _REST][..., None], (*labels.shape[:-1], self.shape[-1]))
            stored = jnp.put_along_axis(rest, labels, stored, axis=-1, inplace=False)
        if self.group > 1 and self.per == "example":
            stored = stored.reshape(stored.shape[0], -1, *self.shape[1:])
        return stored


Stored = tuple[StoredOutput, ...]  # what is kept of one teacher


def is_stored(name: str) -> bool:
    """Whether an output of an encoder can be stored: hidden states of one layer. Scores of attention take too much."""
    return name.startswith(f"{HIDDEN}.")


def stored_outputs(
    teacher: Model,
    params: Params,
    group: int,
    mesh: jax.sharding.Mesh,
    *,
    keep: int | None = None,
    outputs: Collection[str] = (),
) -> Stored:
    """What is stored of a teacher: the outputs of its head in float32, and hidden states of some layers in bfloat16.

    Args:
      teacher, params: the model; of its parameters only the shapes are used.
      group: sequences per example.
      mesh: the devices of the run.
      keep: how many logits to keep of each example or token; all are kept if it has no more.
      outputs: of the encoder, such as hidden_states.2 (`is_stored`).
    """
    c, head = teacher.encoder.config, teacher.heads[MAIN]
    rows, slots = 2, 3
    length = slots * group + 1  # unlike the number of sequences
    hidden = jax.ShapeDtypeStruct((rows, length, c.hidden_size), teacher.policy.dtype)
    ids = jax.ShapeDtypeStruct((rows, length), np.int32)
    inputs = {"segment_ids": ids, "first_token": jax.ShapeDtypeStruct((rows, slots * group), np.int32)}
    with sharding.use_mesh(mesh):
        apply = partial(head.apply, teacher.encoder, name=MAIN, rates=teacher.rates, key=None)
        shapes = jax.eval_shape(lambda p, x, b: apply(params=p, hidden=x, inputs=b), params, hidden, inputs)
    found = []
    for name, x in shapes.items():
        of_tokens, rest = x.shape[1] == length, x.shape[2:]
        shape = rest if of_tokens or group == 1 else (group, *rest)
        some = keep if name == LOGITS and keep is not None and rest and keep < rest[-1] else None
        found.append(StoredOutput(name, "token" if of_tokens else "example", shape, group, some))
    hidden_states = (StoredOutput(name, "token", (c.hidden_size,), group, dtype="bfloat16") for name in sorted(outputs))
    return (*found, *hidden_states)


def prefixed(name: str, teacher: str = TEACHER) -> str:
    """The name in the batch of a column of a teacher's outputs."""
    return f"{teacher}/{name}"


def cached_teacher(stored: Sequence[StoredOutput], teacher: str = TEACHER) -> TeacherOutputs:
    """A teacher whose outputs are read from the columns of the batch."""
    names = {column: prefixed(column, teacher) for x in stored for column in x.columns}

    def read(params: Parameters, batch: Batch) -> Outputs:
        columns: dict[str, Any] = {column: batch[name] for column, name in names.items()}
        return {x.name: x.restore(columns) for x in stored}

    return read
