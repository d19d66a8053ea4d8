"""The torch models of the zoo."""
# ruff: noqa: E402 (without torch every test that imports this is skipped)

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import transformers

from jaxft.models.families import FAMILIES

NAMES = {
    "albert": "Albert",
    "bert": "Bert",
    "camembert": "Camembert",
    "deberta-v2": "DebertaV2",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "modernbert": "ModernBert",
    "mpnet": "MPNet",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
}


def add_noise(model: Any, noise: float = 0.1) -> None:
    """Move every parameter: biases and norms start as zeros and ones, which would hide a mix-up."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))


def torch_model(family: str, kind: str, config: dict[str, Any], seed: int = 0, noise: float = 0.1) -> Any:
    """A random Hugging Face model in evaluation mode, with every parameter away from zero and one."""
    config = dict(config)
    if kind == "question-answering":
        config["num_labels"] = 2
    torch.manual_seed(seed)
    name = FAMILIES[family].classes[kind]
    config_class = getattr(transformers, f"{NAMES[family]}Config")
    model = getattr(transformers, name)(config_class(**config, attn_implementation="eager")).eval()
    add_noise(model, noise)
    return model


def from_pretrained(model_class: Any, directory: Any) -> Any:
    """Hugging Face's model of a directory, in evaluation mode; it must find all its tensors there, and no other."""
    model, info = model_class.from_pretrained(directory, output_loading_info=True)
    assert {name: list(x) for name, x in info.items() if x} == {}
    return model.eval()


def run_torch(model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Numpy outputs by name."""
    with torch.no_grad():
        outputs = model(**{name: torch.tensor(x) for name, x in inputs.items()})
    return {name: x.float().numpy() for name, x in outputs.items() if isinstance(x, torch.Tensor)}
