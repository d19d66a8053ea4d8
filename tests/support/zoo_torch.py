"""The torch models of the zoo."""
# ruff: noqa: E402 (without torch this is skipped before it imports more)

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


def torch_model(family: str, kind: str, config: dict[str, Any], seed: int = 0, noise: float = 0.1) -> Any:
    """A random Hugging Face model in evaluation mode, with every parameter away from zero and one."""
    config = dict(config)
    if kind == "question-answering":
        config["num_labels"] = 2
    torch.manual_seed(seed)
    name = FAMILIES[family].classes[kind]
    config_class = getattr(transformers, f"{NAMES[family]}Config")
    model = getattr(transformers, name)(config_class(**config, attn_implementation="eager")).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model


def run_torch(model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Numpy outputs by name."""
    with torch.no_grad():
        outputs = model(**{name: torch.tensor(x) for name, x in inputs.items()})
    return {name: x.float().numpy() for name, x in outputs.items() if isinstance(x, torch.Tensor)}
