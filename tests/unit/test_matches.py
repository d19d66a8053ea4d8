"""Matches between layers: values and gradients of TextBrewer's and MiniLMv2's formulas, written anew in PyTorch."""
# ruff: noqa: E402 (without torch this file is skipped before it imports more)

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
functional = torch.nn.functional

from jaxft.config.matches import ATTENTION_MATCHES, HIDDEN_MATCHES, MATCHES, RELATION_MATCHES
from jaxft.losses import LOWEST, matches
from jaxft.losses.matches import OF_LAYERS, Texts

RNG = np.random.default_rng(0)
LENGTHS = [[5, 3, 0], [2, 7, 1]]  # of the texts of two packed rows of 12 tokens
WEIGHTS = np.array([[1, 0.5, 0], [2, 1, 0]], np.float32)  # one text of the second row does not count
T = 12
IDS = np.array([[m + 1 for m, n in enumerate(row) for _ in range(n)] + [0] * (T - sum(row)) for row in LENGTHS], np.int32)
FIRST = np.array([[0, 5, 0], [0, 2, 9]], np.int32)
TEXTS = Texts(jnp.asarray(IDS), jnp.asarray(FIRST), jnp.asarray(WEIGHTS))
N, D, D_TEACHER = 3, 8, 16
FLOAT32_LOWEST = np.finfo(np.float32).min


def random(*shape):
    return RNG.normal(0, 1.5, (2, *shape)).astype(np.float32)


STATES, STATES_TEACHER = random(T, D), random(T, D)
WIDE_TEACHER = random(T, D_TEACHER)
SCORES, SCORES_TEACHER = random(N, T, T), random(N, T, T)
QUERIES, QUERIES_TEACHER = random(T, 2, D // 2), random(T, 4, D_TEACHER // 4)


def torch_hidden_mse(s, t):
    return functional.mse_loss(s, t)


def torch_cos(s, t):
    return functional.cosine_embedding_loss(s, t, torch.ones(len(s)))


def torch_pkd(s, t):
    s, t = (x[0] / x[0].norm() for x in (s, t))
    return (s - t).pow(2).sum()


def torch_nst(s, t):
    return functional.mse_loss(s @ s.T / s.shape[1], t @ t.T / t.shape[1])


def torch_attention_mse(s, t):
    return functional.mse_loss(s, t, reduction="none").sum() / s.shape[-1] ** 2


def torch_attention_ce(s, t):
    return -(t.softmax(-1) * s.log_softmax(-1)).sum(-1).mean()


def torch_relation(s, t, heads):
    def relation(x):
        x = x.reshape(len(x), heads, -1).transpose(0, 1)
        return x @ x.transpose(1, 2) / x.shape[-1] ** 0.5

    s, t = relation(s).log_softmax(-1), relation(t).log_softmax(-1)
    return functional.kl_div(s, t, log_target=True, reduction="none").sum(-1).mean()


THEIRS = {
    "hidden_mse": torch_hidden_mse,
    "cos": torch_cos,
    "pkd": torch_pkd,
    "nst": torch_nst,
    "attention_mse": torch_attention_mse,
    "attention_mse_sum": lambda s, t: functional.mse_loss(s.sum(0), t.sum(0)),
    "attention_ce": torch_attention_ce,
    "attention_ce_mean": lambda s, t: torch_attention_ce(s.mean(0), t.mean(0)),
    "attention_probability_mse": torch_attention_mse,
}


def spans():
    """(row, slot, tokens) of every text."""
    for row, lengths in enumerate(LENGTHS):
        start = 0
        for slot, length in enumerate(lengths):
            if length:
                yield row, slot, slice(start, start + length)
            start += length


def of_text(x, row, at):
    """The part of an array that belongs to one text."""
    return x[row][:, at, at] if x.ndim == 4 and x.shape[2:] == (T, T) else x[row][at]


def assert_torch(ours, theirs, student, teacher):
    """Value and gradient of the weighted sum over texts of a formula on each text alone."""
    value, gradient = jax.value_and_grad(lambda x: ours(x, teacher, TEXTS))(jnp.asarray(student))
    s, t = torch.tensor(student, requires_grad=True), torch.tensor(teacher)
    right = sum(WEIGHTS[row, slot] * theirs(of_text(s, row, at), of_text(t, row, at)) for row, slot, at in spans())
    right.backward()
    assert float(value) == pytest.approx(right.item(), rel=1e-6)
    expected = s.grad.numpy()
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_every_name_of_the_config_has_a_loss():
    assert {*OF_LAYERS, "fsp"} == {*HIDDEN_MATCHES, *ATTENTION_MATCHES}
    assert set(MATCHES) == {*OF_LAYERS, "fsp", *RELATION_MATCHES}


@pytest.mark.parametrize("name", OF_LAYERS)
def test_every_match_is_its_formula(name):
    pair = (SCORES, SCORES_TEACHER) if name in ATTENTION_MATCHES else (STATES, STATES_TEACHER)
    assert_torch(OF_LAYERS[name], THEIRS[name], *pair)


def test_widths_may_differ():
    assert_torch(matches.nst, torch_nst, STATES, WIDE_TEACHER)


@pytest.mark.parametrize("heads", [1, 4, 8])
def test_relations_are_those_of_minilm(heads):
    ours = partial(matches.relation, heads=heads)
    assert_torch(ours, partial(torch_relation, heads=heads), QUERIES, QUERIES_TEACHER)


def test_flows_are_those_of_textbrewer():
    def theirs(s, t):
        flow = [x.chunk(2, dim=-1) for x in (s, t)]
        flow = [x.T @ y / len(x) for x, y in flow]
        return functional.mse_loss(*flow)

    def ours(student, teacher, texts):
        return matches.fsp(tuple(jnp.split(student, 2, -1)), tuple(jnp.split(teacher, 2, -1)), texts)

    assert_torch(ours, theirs, random(T, 2 * D), random(T, 2 * D))


@pytest.mark.parametrize("name", ["hidden_mse", "cos", "attention_mse", "attention_mse_sum", "attention_ce", "nst"])
def test_texts_of_one_length_give_textbrewers_mean_over_a_masked_batch(name):
    """Its own code: sums over the tokens of a batch whose mask is 1, over their number (or that of their pairs)."""
    mask = torch.tensor([[1.0] * 7 + [0.0] * 5] * 2)
    n = mask.sum()

    def batch(s, t):
        if name in ("hidden_mse", "cos"):
            error = (s - t).pow(2).mean(-1) if name == "hidden_mse" else 1 - functional.cosine_similarity(s, t, dim=-1)
            return (error * mask).sum() / n
        if name == "nst":
            s, t = (x @ x.transpose(1, 2) / x.shape[2] for x in (s, t))
        if name == "attention_ce":
            s = s + (mask[:, None, None] - 1) * 1e9
            t = t + (mask[:, None, None] - 1) * 1e9
            error = -(t.softmax(-1) * s.log_softmax(-1)).sum(-1).mean(1)
            return (error * mask).sum() / n
        s, t = (x.sum(1) if name == "attention_mse_sum" else x for x in (s, t))
        error = (s - t).pow(2).reshape(2, -1, T, T).sum(1) * mask[:, :, None] * mask[:, None]
        return error.sum() / mask.sum(1).pow(2).sum()

    pair = (STATES, STATES_TEACHER) if name in HIDDEN_MATCHES else (SCORES, SCORES_TEACHER)
    texts = Texts(mask.numpy().astype(np.int32), np.zeros((2, 1), np.int32), np.ones((2, 1), np.float32))
    value = float(OF_LAYERS[name](*pair, texts)) / 2
    assert value == pytest.approx(batch(*map(torch.tensor, pair)).item(), rel=1e-6)


@pytest.mark.parametrize("name", ["attention_mse", "attention_mse_sum", "attention_ce", "attention_ce_mean"])
def test_keys_outside_the_window_of_local_attention_are_left_out(name):
    """Scores there are the lowest number; the loss is that of the keys which both models see, and finite."""
    near = np.abs(np.arange(T)[:, None] - np.arange(T)) <= 2
    student, teacher = np.where(near, SCORES, FLOAT32_LOWEST), SCORES_TEACHER
    texts = Texts(jnp.ones((2, T), jnp.int32), jnp.zeros((2, 1), jnp.int32), jnp.ones((2, 1)))
    value, gradient = jax.value_and_grad(lambda x: OF_LAYERS[name](x, teacher, texts))(jnp.asarray(student))
    both = OF_LAYERS[name](student, np.where(near, teacher, LOWEST), texts)
    assert float(value) == pytest.approx(float(both), rel=1e-6)
    assert 0 < float(value) < 1e3
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient)[:, :, ~near].any()


def test_hidden_states_of_zeros_have_finite_gradients():
    zeros = jnp.zeros_like(STATES)
    for function in (matches.pkd, matches.cosine):
        assert np.isfinite(jax.grad(lambda x, f=function: f(x, STATES_TEACHER, TEXTS))(zeros)).all()
