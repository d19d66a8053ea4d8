"""Losses that match what the layers of a student and of a teacher compute, after TextBrewer (Yang et al. 2020,
arXiv:2002.12620) and MiniLMv2 (Wang et al. 2021, arXiv:2012.15828).

Every loss is a mean over the tokens of a text, multiplied by the weight of the text and summed, so that it is the same for
any layout; with texts of one length it is TextBrewer's mean over the tokens of a batch. Tokens of other texts in the row and
padding are not read. Axes: R rows, T and S tokens, M texts of a row, N heads, D features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxft.losses.labelled import LOWEST

Array = jax.Array


@dataclass(frozen=True)
class Texts:
    """Where the texts of packed rows are, and how much each of them counts.

    Attributes:
      segment_ids: int32 [R, T], the number of each token's text in its row, from 1; 0 for padding.
      first_token: int32 [R, M], where each text begins.
      weights: float32 [R, M], 0 for empty slots and for texts that do not count.
    """

    segment_ids: Array
    first_token: Array
    weights: Array

    @property
    def together(self) -> Array:
        """Whether two tokens belong to the same text: bool [R, T, T]."""
        ids = self.segment_ids
        return (ids[:, :, None] == ids[:, None]) & (ids > 0)[:, :, None]

    @property
    def of_tokens(self) -> Array:
        """The weights of texts spread evenly over their tokens: float32 [R, T]."""
        slots = jnp.arange(1, self.weights.shape[1] + 1, dtype=self.segment_ids.dtype)
        member = self.segment_ids[:, None] == slots[None, :, None]
        share = self.weights / jnp.maximum(member.sum(-1), 1)
        return jnp.where(member, share[:, :, None], 0.0).sum(1)

    def mean(self, of_tokens: Array) -> Array:
        """The weighted sum over texts of the mean of their tokens' numbers [R, T]."""
        weights = self.of_tokens
        return jnp.where(weights > 0, of_tokens * weights, 0.0).sum()


def hidden_mse(student: Array, teacher: Array, texts: Texts) -> Array:
    """The squared error of hidden states [R, T, D], averaged over the features (TextBrewer's `hidden_mse`)."""
    return texts.mean(jnp.square(_float(student) - _float(teacher)).mean(-1))


def cosine(student: Array, teacher: Array, texts: Texts) -> Array:
    """1 less the cosine of hidden states [R, T, D] (DistilBERT, Sanh et al. 2019, arXiv:1910.01108; TextBrewer's `cos`)."""
    student, teacher = _float(student), _float(teacher)
    squares = (jnp.square(student).sum(-1) + 1e-12) * (jnp.square(teacher).sum(-1) + 1e-12)  # as torch does
    return texts.mean(1 - (student * teacher).sum(-1) * jax.lax.rsqrt(squares))


def pkd(student: Array, teacher: Array, texts: Texts) -> Array:
    """The squared distance of the first tokens' hidden states, each of length 1 (Sun et al. 2019, arXiv:1908.09355;
    TextBrewer's `pkd`). Hidden states are [R, T, D].
    """
    first = [_unit(jnp.take_along_axis(_float(x), texts.first_token[..., None], axis=1)) for x in (student, teacher)]
    return (jnp.square(first[0] - first[1]).sum(-1) * texts.weights).sum()


def attention_mse(student: Array, teacher: Array, texts: Texts) -> Array:
    """The squared error of scores or probabilities [R, N, T, S], averaged over all pairs of a text's tokens and summed over
    heads (TextBrewer's `attention_mse`; TinyBERT, Jiao et al. 2020, arXiv:1909.10351, averages over heads).
    """
    visible = _visible(student, teacher, texts)
    error = jnp.where(visible, jnp.square(jnp.where(visible, student, 0.0) - jnp.where(visible, teacher, 0.0)), 0.0)
    return texts.mean((error.sum(-1) / _count(visible)).sum(1))


def attention_mse_sum(student: Array, teacher: Array, texts: Texts) -> Array:
    """As `attention_mse`, of scores that are summed over heads first (TextBrewer's `attention_mse_sum`)."""
    visible = _visible(student, teacher, texts)[:, :1]
    ours, theirs = (_reduced(jnp.sum, x, visible) for x in (student, teacher))
    return attention_mse(ours, theirs, texts)


def attention_ce(student: Array, teacher: Array, texts: Texts) -> Array:
    """Cross-entropy with the teacher's probabilities of attention, from scores [R, N, T, S], averaged over heads and tokens
    (TextBrewer's `attention_ce`).
    """
    visible = _visible(student, teacher, texts)
    student, teacher = (jnp.where(visible, x, LOWEST) for x in (student, teacher))
    entropy = -(jax.nn.softmax(teacher, axis=-1) * jax.nn.log_softmax(student, axis=-1)).sum(-1)
    return texts.mean(entropy.mean(1))


def attention_ce_mean(student: Array, teacher: Array, texts: Texts) -> Array:
    """As `attention_ce`, of scores that are averaged over heads first (TextBrewer's `attention_ce_mean`)."""
    visible = _visible(student, teacher, texts)[:, :1]
    ours, theirs = (_reduced(jnp.mean, x, visible) for x in (student, teacher))
    return attention_ce(ours, theirs, texts)


def relation(student: Array, teacher: Array, texts: Texts, heads: int) -> Array:
    """KL divergence from the teacher's to the student's relations of queries, of keys or of values (MiniLMv2).

    Queries [R, T, N, H] of a model are divided anew into relation heads, and a token's relation to the tokens of its text is
    the softmax of their scaled dot products. It is averaged over relation heads and tokens, so neither the number of heads
    nor the widths of the models must be the same.

    Args:
      heads: number of relation heads, which divides both widths.
    """
    together = texts.together[:, None]

    def logits(x: Array) -> Array:
        x = x.reshape(*x.shape[:2], heads, -1)
        products = jnp.einsum("rtnh,rsnh->rnts", x, x, preferred_element_type=jnp.float32)
        return jax.nn.log_softmax(jnp.where(together, products * x.shape[-1] ** -0.5, LOWEST), axis=-1)

    ours, theirs = logits(student), logits(teacher)
    divergence = jnp.where(together, jnp.exp(theirs) * (theirs - ours), 0.0).sum(-1)
    return texts.mean(divergence.mean(1))


def nst(student: Array, teacher: Array, texts: Texts) -> Array:
    """The squared error of the dot products of a text's tokens, divided by the width, averaged over all pairs (TextBrewer's
    `nst`, after Huang & Wang 2017, arXiv:1707.01219). Hidden states are [R, T, D]; widths may differ.
    """
    visible = texts.together

    def gram(x: Array) -> Array:
        return jnp.einsum("rtd,rsd->rts", x, x, preferred_element_type=jnp.float32) / x.shape[-1]

    error = jnp.where(visible, jnp.square(gram(student) - gram(teacher)), 0.0)
    return texts.mean(error.sum(-1) / _count(visible))


def fsp(student: tuple[Array, Array], teacher: tuple[Array, Array], texts: Texts) -> Array:
    """The squared error of the flow between two layers, the mean over a text's tokens of the outer products of their hidden
    states [R, T, D], averaged over D x D (Yim et al. 2017; TextBrewer's `fsp`).

    The flow [R, D, D] is computed for one slot of all rows at a time.
    """
    ours, theirs = ((_float(x), _float(y)) for x, y in (student, teacher))

    def add(total: Array, slot: Array) -> tuple[Array, None]:
        own = texts.segment_ids == slot + 1
        count = jnp.maximum(own.sum(-1), 1)[:, None, None]

        def flow(x: Array, y: Array) -> Array:
            return jnp.einsum("rtd,rte->rde", jnp.where(own[..., None], x, 0.0), y) / count

        error = jnp.square(flow(*ours) - flow(*theirs)).mean((1, 2))
        return total + (error * jnp.take(texts.weights, slot, axis=1)).sum(), None

    slots = jnp.arange(texts.weights.shape[1], dtype=texts.segment_ids.dtype)
    return jax.lax.scan(jax.checkpoint(add), jnp.zeros(()), slots)[0]


# Those of one layer of each model, by their names in `distill.matches`.
OF_LAYERS: Mapping[str, Callable[[Array, Array, Texts], Array]] = {
    "hidden_mse": hidden_mse,
    "cos": cosine,
    "pkd": pkd,
    "nst": nst,
    "attention_mse": attention_mse,
    "attention_mse_sum": attention_mse_sum,
    "attention_ce": attention_ce,
    "attention_ce_mean": attention_ce_mean,
    "attention_probability_mse": attention_mse,
}


def _float(x: Array) -> Array:
    return x.astype(jnp.float32)


def _unit(x: Array) -> Array:
    """x [..., D] with length 1; zeros stay, without a gradient."""
    squares = jnp.square(x).sum(-1, keepdims=True)
    return jnp.where(squares > 0, x * jax.lax.rsqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)


def _visible(student: Array, teacher: Array, texts: Texts) -> Array:
    """Which keys of a query are compared: those of its text, within the window of local attention of both models."""
    seen = (student > LOWEST / 2).all(1, keepdims=True) & (teacher > LOWEST / 2).all(1, keepdims=True)
    return texts.together[:, None] & seen


def _reduced(function: Callable[..., Array], scores: Array, visible: Array) -> Array:
    """A function of the heads of scores [R, N, T, S], with LOWEST for what is not visible: [R, 1, T, S]."""
    return jnp.where(visible, function(jnp.where(visible, scores, 0.0), axis=1, keepdims=True), LOWEST)


def _count(visible: Array) -> Array:
    return jnp.maximum(visible.sum(-1), 1)
