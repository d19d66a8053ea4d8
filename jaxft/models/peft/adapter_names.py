"""PEFT's names of the tensors in adapter_model.safetensors."""

from collections.abc import Collection

from jaxft.models.encoder import adapters
from jaxft.models.weights.tensor_names import Naming

WEIGHTS = "adapter_model.safetensors"
ROOT = "base_model.model."
TRANSPOSED = (".kernel", ".lora_a", ".lora_b")  # the weights of PyTorch's linear layers have reversed axes
LORA_LEAVES = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight", "magnitude": "lora_magnitude_vector"}


def module_name(naming: Naming, module: str) -> str:
    """Hugging Face's name of one of our modules."""
    return naming.hf_name(f"{module}.kernel").removesuffix(".weight")


def parent(name: str) -> str:
    """The module that a parameter belongs to."""
    return name.rpartition(".")[0]


def file_name(naming: Naming, name: str, has_lora: Collection[str]) -> str:
    """PEFT's name of one of our parameters, without ROOT; `has_lora` are our names of the modules with LoRA."""
    module, _, leaf = name.rpartition(".")
    if leaf in LORA_LEAVES:
        return f"{module_name(naming, module)}.{LORA_LEAVES[leaf]}"
    if f".{adapters.ADAPTER}." in name:
        owner, _, side = module.partition(f".{adapters.ADAPTER}.")
        return f"{module_name(naming, f'{owner}.dense')}.adapter_{side}.{'weight' if leaf == 'kernel' else leaf}"
    hf_name = naming.hf_name(name)
    return ".base_layer.".join(hf_name.rsplit(".", 1)) if module in has_lora else hf_name
