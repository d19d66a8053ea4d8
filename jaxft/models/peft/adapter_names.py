"""How PEFT names the tensors of adapter_model.safetensors."""

from collections.abc import Collection

from jaxft.models.encoder import adapters
from jaxft.models.weights.tensor_names import Naming

WEIGHTS = "adapter_model.safetensors"
ROOT = "base_model.model."
TRANSPOSED = (".kernel", ".lora_a", ".lora_b")  # PyTorch's linear layers have their axes in reverse
LORA_LEAVES = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight", "magnitude": "lora_magnitude_vector"}


def module_name(naming: Naming, module: str) -> str:
    """Hugging Face's name of one of our modules."""
    return naming.theirs(f"{module}.kernel").removesuffix(".weight")


def parent(name: str) -> str:
    """The module that a parameter belongs to."""
    return name.rpartition(".")[0]


def file_name(naming: Naming, name: str, has_lora: Collection[str]) -> str:
    """PEFT's name of one of our parameters, without its root."""
    module, _, leaf = name.rpartition(".")
    if leaf in LORA_LEAVES:
        return f"{module_name(naming, module)}.{LORA_LEAVES[leaf]}"
    if f".{adapters.ADAPTER}." in name:
        parent, _, side = module.partition(f".{adapters.ADAPTER}.")
        return f"{module_name(naming, f'{parent}.dense')}.adapter_{side}.{'weight' if leaf == 'kernel' else leaf}"
    theirs = naming.theirs(name)
    if module in has_lora:
        return ".base_layer.".join(theirs.rsplit(".", 1))
    return theirs
