"""Every family and head against PyTorch: outputs, gradients, and tensors that are saved as they were loaded."""
# ruff: noqa: E402

import tempfile
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

import jaxft
from jaxft.core import tree
from jaxft.models import forward
from tests.support import zoo, zoo_torch


@pytest.mark.parametrize(("family", "kind"), zoo.PAIRS)
def test_outputs_and_saved_tensors_are_transformers(family, kind):
    """One config of each head of each family, with every feature of the family."""
    assert_outputs_and_tensors(family, kind, zoo.fixed(family, kind), 1)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "kind"), zoo.PAIRS)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(data=st.data(), seed=st.integers(0, 99))
def test_outputs_and_saved_tensors_of_any_config_are_transformers(family, kind, data, seed):
    assert_outputs_and_tensors(family, kind, zoo.with_head(family, kind, data.draw(zoo.configs(family))), seed)


def assert_outputs_and_tensors(family: str, kind: str, config: dict, seed: int) -> None:
    """Outputs are within 1e-5 of PyTorch's, and loaded tensors are saved as the same bytes."""
    theirs = zoo_torch.torch_model(family, kind, config, seed)
    inputs = zoo.inputs_for(family, kind, config, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(Path(folder, "a"))
        model, params = jaxft.load(str(Path(folder, "a")))
        assert model.heads["main"].kind == kind
        assert model.report.new == model.report.unused == ()
        jaxft.save(model, params, Path(folder, "b"))
        before, after = (load_file(Path(folder, x, "model.safetensors")) for x in "ab")
        assert before.keys() <= after.keys()
        assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    ours, expected = jaxft.forward(model, params, inputs), zoo_torch.run_torch(theirs, inputs)
    assert ours.keys() - {"mean_output"} == expected.keys()
    for name in expected:
        mine, other = (zoo.real(x[name], inputs["attention_mask"]) for x in (ours, expected))
        assert mine.shape == other.shape, name
        assert np.abs(mine - other).max() <= 1e-5 * np.abs(other).max(), name


def cotangents(outputs: dict[str, np.ndarray], mask: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Random weights of every output, zero on padding: the weighted sum is a loss that depends on every output."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, x in sorted(outputs.items()):
        w = rng.normal(size=x.shape).astype(np.float32)
        per_token = x.shape[: mask.ndim] == mask.shape
        weights[name] = np.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), w, 0) if per_token else w
    return {name: w / np.sqrt(w.size) for name, w in weights.items()}


@pytest.mark.parametrize(("family", "kind"), zoo.pairs())
def test_gradients_and_an_adamw_step_are_transformers(family, kind, tmp_path):
    """Gradients within 1e-4 and parameters after one AdamW step within 1e-6, for texts that contain the padding token."""
    # Large weights saturate attention, whose gradients are then mere rounding errors, in PyTorch too.
    config = zoo.fixed(family, kind) | {"initializer_range": 0.03}
    theirs = zoo_torch.torch_model(family, kind, config, seed=1, noise=0.05)
    theirs.save_pretrained(tmp_path)
    model, params = jaxft.load(str(tmp_path), unroll=1)  # a loop over layers; other tests unroll it
    # If a window of ModernBERT has only padding, PyTorch's outputs there and all gradients are NaN.
    inputs = zoo.inputs_for(family, kind, config, shortest=7, seed=2)
    inputs["input_ids"][..., 3] = model.encoder.config.pad_token_id  # attention sees it in a text
    weights = cotangents(zoo_torch.run_torch(theirs, inputs), inputs["attention_mask"], seed=3)

    theirs = theirs.double()  # so that only the rounding of jaxft matters
    outputs = theirs(**{name: torch.tensor(x) for name, x in inputs.items()})
    sum((outputs[name] * torch.tensor(w)).sum() for name, w in weights.items()).backward()
    expected = {n: p.grad for n, p in theirs.named_parameters(remove_duplicate=False) if p.grad is not None}
    # Adam's first step is the sign of a gradient unless epsilon is above the rounding noise of those that are zero.
    settings = {"eps": 1e-4, "weight_decay": 0.1}
    adam = torch.optim.AdamW(theirs.parameters(), lr=2e-5, **settings)
    adam.step()

    batch = forward.batch_of(model, inputs)

    def loss(params):
        ours = forward.outputs_of(model, model.apply(params, batch), inputs)
        return sum((ours[name] * w).sum() for name, w in weights.items())

    @jax.jit
    def step(params):
        optimizer, grads = optax.adamw(2e-5, **settings), jax.grad(loss)(params)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        return grads, optax.apply_updates(params, updates)

    grads, moved = (tree.unstack(x) for x in jax.device_get(step(params)))
    after = dict(theirs.named_parameters(remove_duplicate=False))
    largest = max(np.linalg.norm(g) for g in grads.values())
    assert largest > 1e-2
    for name, g in grads.items():
        reverse = name.endswith(".kernel")
        hf = model.naming.hf_name(name)
        right = expected[hf].numpy() if hf in expected else np.zeros(after[hf].shape, np.float32)
        right = right.T if reverse else right
        # A gradient that is zero in theory (a key's bias) is rounding noise in both: measured against the whole.
        assert np.linalg.norm(g - right) <= 1e-4 * max(np.linalg.norm(right), 1e-3 * largest), name
        new = after[hf].detach().numpy()
        assert np.abs(moved[name] - (new.T if reverse else new)).max() <= 1e-6, name
