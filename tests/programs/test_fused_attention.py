"""Fused attention of accelerators: the numbers of plain attention at every real token, and when it is chosen."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.config import MeshConfig
from jaxft.core import random_keys
from jaxft.core.errors import UserError
from jaxft.data.batching.batch_sampler import make_sampler
from jaxft.data.tokens.encode import Examples
from jaxft.models.encoder import fused_attention
from jaxft.models.encoder.attention import attend
from jaxft.models.encoder.config import Policy
from jaxft.parallel import sharding
from jaxft.run.loss import run_loss
from jaxft.run.setup import check_attention, make_run
from jaxft.step.parameters import Parameters
from tests.support import tiny

B, T, N, H = 2, 128, 2, 16
RNG = np.random.default_rng(0)
Q, K, V, G = (jnp.asarray(RNG.normal(size=(B, T, N, H)), jnp.float32) for _ in range(4))
PACKED = jnp.asarray([[1] * 50 + [2] * 60 + [0] * 18, [1] * 128], jnp.int32)
SINGLE = jnp.asarray([[1] * 50 + [0] * 78, [1] * 128], jnp.int32)


def value_and_gradients(attention, segment_ids, q=Q, k=K, v=V, g=G):
    """Of a scalar objective over real tokens."""
    real = (segment_ids > 0)[:, :, None, None]

    def objective(q, k, v):
        context = attention(q, k, v, segment_ids)
        return (jnp.where(real, context, 0) * g).sum(), jnp.where(real, context, 0)

    return jax.jit(jax.grad(objective, argnums=(0, 1, 2), has_aux=True))(q, k, v)


def assert_same(found, expected):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=2e-6 * float(jnp.abs(y).max()))


def plain(q, k, v, segment_ids, **options):
    return attend(q, k, v, segment_ids, **options)[0]


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("single", [True, False])
def test_the_arguments_of_cudnn_mean_plain_attention(single, window):
    """JAX's own implementation computes the same from the arguments that cuDNN gets."""
    ids = SINGLE if single else PACKED
    asked = partial(fused_attention.cudnn, scale=0.3, window=window, single=single, mesh=None, name="xla")
    assert_same(value_and_gradients(asked, ids), value_and_gradients(partial(plain, scale=0.3, window=window), ids))


@pytest.mark.parametrize("devices", [1, 2])
def test_splash_computes_plain_attention(devices):
    mesh = sharding.make_mesh(MeshConfig(data=devices))
    splash = partial(fused_attention.splash, scale=0.3, window=None, single=False, mesh=mesh, interpret=True)
    place = jax.NamedSharding(mesh, jax.P(("data", "fsdp")))
    arrays = [jax.device_put(x, place) for x in (PACKED, Q, K, V, G)]
    assert_same(value_and_gradients(splash, *arrays), value_and_gradients(partial(plain, scale=0.3), PACKED))


def test_splash_in_bfloat16_asks_for_no_precision():
    """The compiler of TPU kernels refuses bfloat16 products with float32 precision."""
    narrow = [x.astype(jnp.bfloat16) for x in (Q, K, V)]

    def objective(q, k, v):
        options = {"scale": 0.3, "window": None, "single": False, "mesh": None, "interpret": True}
        return fused_attention.splash(q, k, v, PACKED, **options).astype(jnp.float32).sum()

    program = str(jax.make_jaxpr(jax.grad(objective, (0, 1, 2)))(*narrow))
    assert "dot_general" in program
    assert "HIGHEST" not in program


def call(**changes) -> fused_attention.Call:
    known = {"dtype": "bfloat16", "length": 512, "head_size": 64, "plain": False, "window": False, "single": True}
    return fused_attention.Call(**known | changes)


NEW = jax.__version_info__ >= (0, 11, 2)


@pytest.mark.parametrize(
    ("platform", "changes", "expected"),
    [
        ("cpu", {}, None),
        ("gpu", {}, fused_attention.cudnn),
        ("gpu", {"plain": True}, None),
        ("gpu", {"dtype": "float32"}, None),
        ("gpu", {"length": 127}, None),
        ("gpu", {"head_size": 20}, None),
        ("gpu", {"single": False}, fused_attention.cudnn if NEW else None),
        ("gpu", {"window": True}, fused_attention.cudnn if NEW else None),
        ("tpu", {}, fused_attention.splash),
        ("tpu", {"single": False, "dtype": "float32"}, fused_attention.splash),
        ("tpu", {"length": 256}, None),
        ("tpu", {"length": 400}, None),
        ("tpu", {"plain": True}, None),
        ("tpu", {"window": True}, None),
    ],
)
def test_the_kernel_depends_on_device_and_call(platform, changes, expected):
    assert fused_attention.choose(Policy(platform=platform), call(**changes)) is expected
    assert fused_attention.choose(Policy(platform=platform, attention="plain"), call(**changes)) is None


@pytest.mark.parametrize(
    ("policy", "changes", "words"),
    [
        (Policy(attention="cudnn"), {}, "runtime.attention is cudnn: the device is a cpu"),
        (Policy(attention="splash", platform="gpu"), {}, "runtime.attention is splash: the device is a gpu"),
        (Policy(attention="cudnn", platform="gpu"), {"plain": True}, "model.attention_dropout_kind keys"),
        (Policy(attention="cudnn", platform="gpu"), {"dtype": "float32"}, "train.dtype is float32"),
        (Policy(attention="splash", platform="tpu"), {"length": 200}, "rows of 200 are no multiple of 128"),
    ],
)
def test_a_forced_kernel_that_cannot_be_used_is_refused(policy, changes, words):
    with pytest.raises(UserError, match=words):
        fused_attention.choose(policy, call(**changes))


@pytest.mark.parametrize(
    ("policy", "changes", "words"),
    [
        (Policy(platform="cpu"), {"plain": True}, None),
        (Policy(platform="gpu"), {}, None),
        (Policy(platform="gpu", attention="plain"), {}, None),
        (Policy(platform="gpu"), {"plain": True}, "model.attention_dropout_kind keys"),
        (Policy(platform="tpu"), {"length": 256}, "rows of 256 are shorter than 384"),
        (Policy(platform="tpu"), {"length": 400}, "no multiple of 128"),
    ],
)
def test_the_reason_for_plain_attention_is_known(policy, changes, words):
    found = fused_attention.why_plain(policy, call(**changes))
    assert found is None if words is None else words in found


def test_a_run_reports_plain_attention(tiny_model, tiny_data, tmp_path):
    run = make_run(tiny.run_config(tiny_model, tiny_data, tmp_path / "run"))  # with dropout
    on_tpu = replace(run.model, policy=Policy(platform="tpu"))
    [line] = check_attention(on_tpu, run.sampler, drops=True)
    assert line.startswith("attention: plain, not splash: there is a bias, or dropout of single probabilities")
    assert check_attention(run.model, run.sampler, drops=True) == ()
    forced = replace(run.model, policy=Policy(platform="tpu", attention="splash"))
    with pytest.raises(UserError, match="no multiple of 128"):
        check_attention(forced, run.sampler, drops=False)


def test_row_lengths_on_tpus_are_multiples_of_128():
    """If they are long enough for splash attention; on other devices nothing changes."""
    assert [fused_attention.padded_length(t, "tpu") for t in (8, 376, 384, 392, 512, 520)] == [8, 376, 384, 512, 512, 640]
    assert fused_attention.padded_length(392, "gpu") == 392
    lengths = np.random.default_rng(0).integers(100, 393, 300)
    for layout in ("pack", "bucket"):
        options = {"batch_size": 16, "max_length": 400, "layout": layout, "seed": 0}
        own = make_sampler(lengths, **options, lengthen=partial(fused_attention.padded_length, platform="tpu"))
        assert {shape.length % 128 for shape in own.shapes if shape.length >= 384} == {0}
        examples = Examples({}, np.concatenate([[0], np.cumsum(lengths)]), {})
        assert own.epoch_batches(0).batch(examples, 0)["example"].max() > 0
        same = make_sampler(lengths, **options, lengthen=partial(fused_attention.padded_length, platform="gpu"))
        assert same.shapes == make_sampler(lengths, **options).shapes


def test_dropout_of_keys():
    """A key is dropped for all queries of a row and head or for none, and the others are scaled up."""
    length = 8
    q, k = (jnp.asarray(RNG.normal(size=(B, length, N, length)), jnp.float32) for _ in range(2))
    v = jnp.broadcast_to(jnp.eye(length)[None, :, None], q.shape)  # the context is the row of probabilities
    ids = jnp.ones((B, length), jnp.int32)
    rate = 0.25
    some = jax.jit(lambda key: attend(q, k, v, ids, rate=rate, key=key, by_keys=True)[0])
    probabilities = attend(q, k, v, ids)[0]
    drawn = np.stack([some(random_keys.root_key(seed)) for seed in range(300)])
    kept = drawn > 0
    assert (kept == kept[:, :, :1]).all()
    np.testing.assert_allclose(drawn, np.where(kept, probabilities / (1 - rate), 0), rtol=1e-5)
    columns = kept[:, :, 0]  # [draws, B, N, keys]
    assert abs(columns.mean() - (1 - rate)) < 0.02
    assert np.abs(columns.mean(0) - (1 - rate)).max() < 0.12
    np.testing.assert_array_equal(attend(q, k, v, ids, rate=rate, by_keys=True)[0], probabilities)


def test_a_run_drops_attention_as_configured(tiny_model, tiny_data, tmp_path):
    """No dropout, dropout of probabilities and of keys give three losses, each of them reproducible."""

    def losses(**model) -> list[float]:
        sections = {"model": {**tiny.NO_DROPOUT, **model}, "data": {"layout": "pad"}}
        run = make_run(tiny.run_config(tiny_model, tiny_data, tmp_path / "run", **sections))
        batch = {name: x[0] for name, x in run.sampler.epoch_batches(0).batch(run.data["train"].examples, 0).items()}
        loss = jax.jit(lambda key: run_loss(run)(Parameters(run.params), batch, key, {})[0][0])
        return [float(loss(random_keys.root_key(0))) for _ in range(2)]

    found = [losses(), losses(attention_dropout=0.5), losses(attention_dropout=0.5, attention_dropout_kind="keys")]
    assert all(a == b for a, b in found)
    assert len({a for a, _ in found}) == 3
