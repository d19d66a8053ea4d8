"""Matches between the layers of a student and of a teacher (`distill.matches`): what they need, and their sum."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.config import DistillConfig, MatchConfig, OptimConfig
from jaxft.config.matches import ATTENTION_MATCHES, PROJECTABLE, RELATION_MATCHES
from jaxft.core.errors import UserError
from jaxft.core.random_streams import host_generator
from jaxft.core.tree import Params
from jaxft.losses import matches as losses
from jaxft.losses.matches import Texts
from jaxft.models.encoder.attention import PROBABILITIES, PROJECTIONS, SCORES
from jaxft.models.encoder.config import EncoderConfig
from jaxft.models.encoder.layer_outputs import HIDDEN, layer_output
from jaxft.models.encoder.matmul import dense
from jaxft.param_plan.rules import Rule
from jaxft.step.layer_maps import Pair, layer_pairs

Array = jax.Array
Outputs = Mapping[str, Array]
PROJECTION = "projections"  # the key of projections in a run's parameters, beside the model's `encoder` and `heads`
_ANY_HEADS = ("attention_mse_sum", "attention_ce_mean")  # which reduce over heads before they compare


@dataclass(frozen=True)
class Match:
    """A match of the config for two models.

    Attributes:
      config: its options.
      number: its place in `distill.matches`, from 1.
      output: the encoder's output that is compared.
      pairs: layers of student and teacher.
      heads: number of relation heads.
      widths: the widths of the student and of the teacher, if it has a projection.
    """

    config: MatchConfig
    number: int
    output: str
    pairs: tuple[Pair, ...]
    heads: int = 0
    widths: tuple[int, int] | None = None

    def loss(self, params: Params, student: Outputs, teacher: Outputs, texts: Texts) -> Array:
        """The sum of the match over its pairs of layers, each a sum over texts, without its weight."""
        ours = [self._projected(params, student[layer_output(self.output, layer)]) for layer, _ in self.pairs]
        theirs = [teacher[layer_output(self.output, layer)] for _, layer in self.pairs]
        if self.config.match == "fsp":
            flows = zip(pairwise(ours), pairwise(theirs), strict=True)
            return sum((losses.fsp(a, b, texts) for a, b in flows), jnp.zeros(()))
        function: Callable[..., Array] = (
            partial(losses.relation, heads=self.heads) if self.heads else losses.OF_LAYERS[self.config.match]
        )
        return sum((function(a, b, texts) for a, b in zip(ours, theirs, strict=True)), jnp.zeros(()))

    def _projected(self, params: Params, x: Array) -> Array:
        if not self.widths:
            return x
        own = params[PROJECTION][str(self.number)]
        y = dense(x.reshape(-1, x.shape[-1]), own["kernel"]).reshape(*x.shape[:-1], -1)
        return y.astype(jnp.float32) + own["bias"][None, None]


@dataclass(frozen=True)
class Matches:
    """The matches of a run that have a weight."""

    matches: tuple[Match, ...]

    @property
    def student_outputs(self) -> tuple[str, ...]:
        """The names of the outputs that the student's encoder must return, such as `hidden_states.2` (`Encoder.apply`)."""
        return self._outputs(0)

    @property
    def teacher_outputs(self) -> tuple[str, ...]:
        """The names of the outputs that the teacher's encoder must return."""
        return self._outputs(1)

    @property
    def lowest_input(self) -> int:
        """The largest number of lowest layers of the student whose outputs alone, without what is inside, are enough."""
        hidden = [layer for m in self.matches if m.output == HIDDEN for layer, _ in m.pairs]
        return min([*hidden, *(layer - 1 for m in self.matches if m.output != HIDDEN for layer, _ in m.pairs)])

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """The widths of student and teacher of each projection, by the number of its match."""
        return {str(m.number): m.widths for m in self.matches if m.widths}

    def line(self) -> str:
        """The pairs of layers for the log, as "hidden_mse 1-2, 2-4; cos 3-6"."""
        each = (f"{m.config.match} {', '.join(f'{own}-{theirs}' for own, theirs in m.pairs)}" for m in self.matches)
        return f"matched layers of student and teacher (from 1; 0: embeddings): {'; '.join(each)}"

    def parts(
        self, params: Params, student: Outputs, teacher: Outputs, batch: Mapping[str, Array], weights: Array
    ) -> list[Array]:
        """The loss of each match, a sum over texts, without its weight.

        Args:
          params: all parameters of the run, with the projections.
          student, teacher: outputs by name.
          batch: `segment_ids` [R, T] and `first_token` [R, M].
          weights: the weight of each text in the loss of the task, [R, M] (`Task.text_weights`).
        """
        texts = Texts(batch["segment_ids"], batch["first_token"], weights)
        return [match.loss(params, student, teacher, texts) for match in self.matches]

    def _outputs(self, side: int) -> tuple[str, ...]:
        return tuple(sorted({layer_output(m.output, pair[side]) for m in self.matches for pair in m.pairs}))


def make_matches(
    config: DistillConfig, student: EncoderConfig, teacher: EncoderConfig, *, attention: str = "auto"
) -> Matches | None:
    """The matches of a config between two encoders; None without any.

    Layers whose scores or probabilities are compared use plain attention, the others the device's own.

    Raises:
      UserError: for a layer that a model does not have, models that a match cannot compare, or `attention`
        (`runtime.attention`) that does not write the scores that one reads.
    """
    for number, match in enumerate(config.matches, 1):
        if match.match in ATTENTION_MATCHES and attention not in ("auto", "plain"):
            raise UserError(
                f"distill.matches {number}: {match.match} reads the scores of attention, which runtime.attention "
                f"{attention} does not write: leave it at auto"
            )
    each = [_match(x, number, student, teacher) for number, x in enumerate(config.matches, 1)]
    used = tuple(match for match in each if match.config.weight)
    return Matches(used) if used else None


def add_projections(params: Params, widths: Mapping[str, Sequence[int]], seed: int) -> Params:
    """Add new projections to the parameters of a run: normal with standard deviation 0.02, as in TextBrewer; biases are 0.

    Args:
      params: numpy arrays, or shapes.
      widths: the widths of the student and of the teacher by the name of a projection.
    """
    if not widths:
        return params
    made: dict[str, dict[str, Any]] = {}
    for name, (own, theirs) in widths.items():
        generator = host_generator(seed, zlib.crc32(f"{PROJECTION}.{name}".encode()))
        kernel = generator.normal(0.0, 0.02, (own, theirs)).astype(np.float32)
        made[name] = {"kernel": kernel, "bias": np.zeros(theirs, np.float32)}
    return {**params, PROJECTION: made}


def projection_rules(config: DistillConfig, optim: OptimConfig, widths: Mapping[str, Sequence[int]]) -> list[Rule]:
    """The rows of the parameter plan for projections: trained from the start, whatever the presets freeze."""
    rules = []
    for name in widths:
        rate = config.matches[int(name) - 1].learning_rate
        multiplier = 1.0 if rate is None else rate / optim.learning_rate
        cells = {"trainable": True, "unfreeze": 0, "learning_rate": multiplier}
        rules.append(Rule(rf"^{PROJECTION}\.{name}\.", cells, "distill.matches"))
    return rules


def kernels_of(params: Params) -> dict[str, Any]:
    """The kernels of the projections among the parameters of a run, by the number of their match."""
    return {name: own["kernel"] for name, own in params.get(PROJECTION, {}).items()}


def _match(config: MatchConfig, number: int, student: EncoderConfig, teacher: EncoderConfig) -> Match:
    where, name = f"distill.matches {number}", config.match
    output = _output(name)
    pairs = tuple(layer_pairs(config.layers, student.applied_layers, teacher.applied_layers, f"{where} layers"))
    if output != HIDDEN and any(0 in pair for pair in pairs):
        raise UserError(f"{where} layers is {config.layers}: layer 0 are the embeddings, which have no attention")
    if name == "fsp" and len(pairs) < 2:
        raise UserError(f"{where} layers is {config.layers}: fsp compares the flow between layers: give two pairs or more")
    widths = (student.hidden_size, teacher.hidden_size)
    if name in PROJECTABLE and not config.projection and widths[0] != widths[1]:
        raise UserError(
            f"{where}: {name} compares hidden states of {widths[0]} numbers (student) and {widths[1]} (teacher): set "
            "projection: linear, or use nst, which needs no common width"
        )
    heads = 0
    if name in RELATION_MATCHES:
        heads = config.heads or teacher.num_heads
        if any(width % heads for width in widths):
            raise UserError(
                f"{where} heads is {heads}{'' if config.heads else ' (of the teacher)'}: must divide the widths of the "
                f"student, {widths[0]}, and of the teacher, {widths[1]}"
            )
    if name in ATTENTION_MATCHES and name not in _ANY_HEADS and student.num_heads != teacher.num_heads:
        raise UserError(
            f"{where}: {name} compares each head, but the student has {student.num_heads} and the teacher "
            f"{teacher.num_heads}: use {' or '.join(_ANY_HEADS)}, or a relation of MiniLMv2, such as {RELATION_MATCHES[0]}"
        )
    return Match(config, number, output, pairs, heads, widths if config.projection else None)


def _output(name: str) -> str:
    """The output of the encoder that a match compares."""
    if name in RELATION_MATCHES:
        return PROJECTIONS[RELATION_MATCHES.index(name)]
    if name in ATTENTION_MATCHES:
        return PROBABILITIES if name == "attention_probability_mse" else SCORES
    return HIDDEN
