"""Writes a trained adapter as a directory that PEFT can load."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from jaxft.core import tree
from jaxft.core.errors import UserError
from jaxft.core.tree import Params
from jaxft.models.encoder import adapters
from jaxft.models.encoder.adapters import Lora
from jaxft.models.heads import VOCABULARY
from jaxft.models.model import MAIN, Model
from jaxft.models.peft.adapter_config import CONFIG, adapter_config_fields, unique_suffixes
from jaxft.models.peft.adapter_names import ROOT, TRANSPOSED, WEIGHTS, file_name, module_name, parent
from jaxft.models.weights import tensor_files


def adapter_writers(model: Model, params: Params) -> dict[str, Callable[[Path], object]]:
    """File name -> function that writes it, for `tensor_files.write_directory`.

    Raises:
      UserError: if the base is unknown.
    """
    adapted, kind, naming = model.adapted, model.encoder.config.adapter, model.naming
    assert adapted is not None
    assert kind is not None
    if adapted.base is None:
        raise UserError("the adapter's base model was not loaded from anywhere: save the merged model")
    flat = tree.unstack(params)
    adapter_params = {name for name in flat if adapters.is_adapter(name)}
    saved = {name for name in flat if name in adapted.saved or name.startswith("heads.")} - adapter_params
    has_lora = set(adapted.modules) if isinstance(kind, Lora) else set()
    biases = {name for name in flat.keys() - adapter_params if name.endswith(".bias")}
    every_bias = bool(biases) and biases <= saved
    # PEFT saves complete modules, or only biases.
    modules_to_save = {parent(name) for name in (saved - biases if every_bias else saved)} - has_lora
    saved |= {name for name in flat.keys() - adapter_params if parent(name) in modules_to_save}
    tensors = {}
    for name in adapter_params | saved:
        x = flat[name].astype(model.origin.dtypes.get(name, np.float32), copy=False)
        tensors[ROOT + file_name(naming, name, has_lora)] = x.T if name.endswith(TRANSPOSED) else x
    fields = adapter_config_fields(
        kind, model.heads[MAIN].kind, adapted.base, adapted.revision, _modules_to_save(model, sorted(modules_to_save))
    )
    if isinstance(kind, Lora):
        some_bias = any(f"{module}.bias" in saved for module in has_lora)
        modules = {module_name(naming, parent(name)) for name in flat.keys() - adapter_params}
        targets = {module_name(naming, module) for module in has_lora}
        fields |= {
            "bias": "all" if every_bias else "lora_only" if some_bias else "none",
            "target_modules": unique_suffixes(targets, modules - targets),
        }
    return {CONFIG: partial(tensor_files.write_json, fields), WEIGHTS: partial(tensor_files.write_safetensors, tensors)}


def _modules_to_save(model: Model, modules: list[str]) -> list[str]:
    """Hugging Face's names of the modules that PEFT saves completely: heads, and other trained modules.

    A decoder that is tied to the word embeddings must not be copied: its bias is in the file without being named here.
    """
    vocabulary = any(part.outputs == VOCABULARY for part in model.heads[MAIN].parts.values())
    names = []
    for module in modules:
        in_head = module.startswith("heads.")
        if not (in_head and module.endswith(".decoder")):
            hf_name = module_name(model.naming, module)
            names.append(hf_name.partition(".")[0] if in_head and not vocabulary else hf_name)
    return list(dict.fromkeys(names))
