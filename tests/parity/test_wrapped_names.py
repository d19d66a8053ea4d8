"""Weights saved from models inside PyTorch's wrappers give the same logits, and the report says so."""
# ruff: noqa: E402 (without torch this file is skipped before it imports more)

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch._dynamo")  # which torch.compile would import inside a test

from safetensors.torch import load_file, save_file

import jaxft
from jaxft.core.errors import UserError
from jaxft.models.weights.tensor_names import unwrapped
from tests.support import zoo, zoo_torch

KIND = "text-classification"
CONFIG = zoo.fixed("bert", KIND)


def compiled_inside(model):
    model.bert = torch.compile(model.bert)
    return model


WRAPPERS = {
    "DataParallel": torch.nn.DataParallel,
    "compile": torch.compile,
    "compile inside": lambda model: torch.nn.DataParallel(torch.compile(model)),
    "compile outside": lambda model: torch.compile(torch.nn.DataParallel(model)),
    "of the encoder": compiled_inside,
}


def write(folder: Path, wrap) -> tuple[Path, dict]:
    """(a model directory with the state of the wrapped model, outputs of the model itself)."""
    model = zoo_torch.torch_model("bert", KIND, CONFIG)
    inputs = zoo.inputs_for("bert", KIND, CONFIG)
    outputs = zoo_torch.run_torch(model, inputs)
    folder.mkdir()
    save_file({name: x.contiguous() for name, x in wrap(model).state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder, {"inputs": inputs, "logits": outputs["logits"]}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_wrapped_weights_give_the_same_logits(tmp_path, wrap):
    folder, right = write(tmp_path / "m", wrap)
    stored = load_file(folder / "model.safetensors")
    model, params = jaxft.load(str(folder))
    outputs = jaxft.forward(model, params, right["inputs"])
    np.testing.assert_allclose(outputs["logits"], right["logits"], atol=1e-5)
    wrapped = [name for name in stored if unwrapped(name) != name]
    assert model.report.loaded == len(stored)
    assert set(model.report.wrapped) == set(wrapped)
    assert f"{len(wrapped)} names are read without what PyTorch's wrappers added to them" in " ".join(model.report.lines())
    jaxft.save(model, params, tmp_path / "saved")
    assert set(load_file(tmp_path / "saved/model.safetensors")) == {unwrapped(name) for name in stored}


def test_one_tensor_under_two_names_is_refused(tmp_path):
    folder, _ = write(tmp_path / "m", torch.nn.DataParallel)
    stored = load_file(folder / "model.safetensors")
    save_file(stored | {"classifier.bias": stored["module.classifier.bias"].clone()}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"classifier\.bias and \S*classifier\.bias are the same tensor under two names"):
        jaxft.load(str(folder))


@pytest.mark.filterwarnings("ignore")  # PEFT and transformers warn of what they deprecate in each other
def test_an_adapter_of_a_wrapped_model_gives_the_same_logits(tmp_path):
    peft = pytest.importorskip("peft")
    base = zoo_torch.torch_model("bert", KIND, CONFIG)
    base.save_pretrained(tmp_path / "base")
    base.name_or_path = str(tmp_path / "base")
    model = peft.get_peft_model(base, peft.LoraConfig(r=3, lora_alpha=5, task_type="SEQ_CLS", init_lora_weights=False))
    model.save_pretrained(tmp_path / "plain")
    plain = load_file(tmp_path / "plain/adapter_model.safetensors")
    (tmp_path / "wrapped").mkdir()
    (tmp_path / "wrapped/adapter_config.json").write_text((tmp_path / "plain/adapter_config.json").read_text())
    inside = {name.replace("model.bert.", "model._orig_mod.bert."): x for name, x in plain.items()}
    save_file({f"module.{name}": x for name, x in inside.items()}, tmp_path / "wrapped/adapter_model.safetensors")
    inputs = zoo.inputs_for("bert", KIND, CONFIG)
    outputs = [jaxft.forward(*jaxft.load(str(tmp_path / x)), inputs)["logits"] for x in ("plain", "wrapped")]
    np.testing.assert_array_equal(*outputs)
