"""PEFT's adapter directories: PyTorch and we read each other's, with the same logits."""
# ruff: noqa: E402

import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

import jaxft
from jaxft.models import peft as ours
from jaxft.models.families import FAMILIES
from tests import zoo, zoo_torch

KIND = "text-classification"
TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def _quiet():
    """PEFT warns about its own deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def base_model(family: str, folder: Path, kind: str = KIND):
    """(config, torch model saved in `folder`)."""
    config = zoo.fixed(family, kind)
    theirs = zoo_torch.torch_model(family, kind, config, seed=3)
    theirs.save_pretrained(folder)
    return config, fresh(theirs, folder)


def linear_names(theirs) -> list[str]:
    """Last names of the dense layers inside the encoder's layers."""
    inside = [n for n, m in theirs.base_model.named_modules() if isinstance(m, torch.nn.Linear) and ".0." in n]
    return sorted({name.rpartition(".")[2] for name in inside})


def randomise(model, seed: int = 0) -> None:
    """Every trainable parameter, so that B is not zero."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


def with_peft(theirs, folder: Path, **options):
    """A random PEFT model of `theirs` in evaluation mode, saved in `folder`."""
    model = peft.get_peft_model(theirs, peft.LoraConfig(**{"r": 3, "lora_alpha": 5, "task_type": "SEQ_CLS", **options}))
    randomise(model)
    model.save_pretrained(folder)
    return model.eval()


def assert_same(outputs: dict[str, np.ndarray], expected: dict[str, np.ndarray], mask: np.ndarray) -> None:
    for name, right in expected.items():
        a, b = zoo.real(outputs[name], mask), zoo.real(right, mask)
        assert np.abs(a - b).max() <= TOLERANCE * np.abs(b).max(), name


@pytest.mark.parametrize("family", FAMILIES)
def test_both_ways(family, tmp_path):
    """All dense layers of the layers, DoRA and rank-stabilised where the family's number is odd."""
    config, theirs = base_model(family, tmp_path / "base")
    odd = sorted(FAMILIES).index(family) % 2 == 1
    options = {"use_dora": odd, "use_rslora": odd, "target_modules": linear_names(theirs)}
    peft_model = with_peft(theirs, tmp_path / "theirs", **options)
    inputs = zoo.inputs_for(family, KIND, config, shortest=7)
    expected = zoo_torch.run_torch(peft_model, inputs)

    model, params = jaxft.load(str(tmp_path / "theirs"))
    outputs = jaxft.forward(model, params, inputs)
    assert_same(outputs, expected, inputs["attention_mask"])
    assert model.report.new == ()

    jaxft.save(model, params, tmp_path / "ours")
    again = peft.PeftModel.from_pretrained(fresh(theirs, tmp_path / "base"), tmp_path / "ours").eval()
    assert_same(zoo_torch.run_torch(again, inputs), outputs, inputs["attention_mask"])
    before, after = ({n: x.read() for n, x in ours.open_adapter(tmp_path / x).tensors.items()} for x in ("theirs", "ours"))
    assert before.keys() <= after.keys()  # we save the head, of which PEFT leaves out what it does not call classifier
    assert all(np.array_equal(before[name], after[name]) for name in before)

    merged, kernels = jaxft.merge(model, params)
    jaxft.save(merged, kernels, tmp_path / "merged")
    whole = type(fresh(theirs, tmp_path / "base")).from_pretrained(tmp_path / "merged", attn_implementation="eager").eval()
    assert_same(zoo_torch.run_torch(whole, inputs), outputs, inputs["attention_mask"])


def fresh(theirs, base: Path):
    """The base model as it was before PEFT changed it."""
    kind = theirs.__class__
    return kind.from_pretrained(base, attn_implementation="eager")
