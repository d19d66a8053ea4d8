"""A trained adapter as a directory that PEFT loads."""

import json
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
from jaxft.models.peft.adapter_config import CONFIG, endings, settings_fields
from jaxft.models.peft.adapter_names import ROOT, TRANSPOSED, WEIGHTS, file_name, module_name, parent
from jaxft.models.weights import tensor_files


def adapter_writers(model: Model, params: Params) -> dict[str, Callable[[Path], object]]:
    """File name -> function that writes it, for `files.write_directory`.

    Raises:
      UserError: when the base is not known.
    """
    adapted, kind, naming = model.adapted, model.encoder.config.adapter, model.naming
    assert adapted is not None
    assert kind is not None
    if adapted.base is None:
        raise UserError("the adapter's base model was not loaded from anywhere: save the merged model")
    flat = tree.unstack(params)
    own = {name for name in flat if adapters.is_adapter(name)}
    saved = {name for name in flat if name in adapted.saved or name.startswith("heads.")} - own
    has_lora = set(adapted.modules) if isinstance(kind, Lora) else set()
    biases = {name for name in flat.keys() - own if name.endswith(".bias")}
    every_bias = bool(biases) and biases <= saved
    # PEFT saves a module as a whole, or its bias alone.
    whole = {parent(name) for name in (saved - biases if every_bias else saved)} - has_lora
    saved |= {name for name in flat.keys() - own if parent(name) in whole}
    tensors = {}
    for name in own | saved:
        x = flat[name].astype(model.origin.dtypes.get(name, np.float32), copy=False)
        tensors[ROOT + file_name(naming, name, has_lora)] = x.T if name.endswith(TRANSPOSED) else x
    fields = settings_fields(
        kind, model.heads[MAIN].kind, adapted.base, adapted.revision, _modules_to_save(model, sorted(whole))
    )
    if isinstance(kind, Lora):
        some_bias = any(f"{module}.bias" in saved for module in has_lora)
        modules = {module_name(naming, parent(name)) for name in flat.keys() - own}
        targets = {module_name(naming, module) for module in has_lora}
        fields |= {
            "bias": "all" if every_bias else "lora_only" if some_bias else "none",
            "target_modules": endings(targets, modules - targets),
        }
    text = json.dumps(fields, indent=2, ensure_ascii=False) + "\n"
    return {
        CONFIG: lambda path: path.write_text(text, encoding="utf-8"),
        WEIGHTS: partial(tensor_files.write_safetensors, tensors),
    }


def _modules_to_save(model: Model, modules: list[str]) -> list[str]:
    """Hugging Face's names of modules that PEFT saves as a whole: heads, and what else was trained.

    A decoder that is tied to the words must not be copied: its bias stands in the file without being named here.
    """
    vocabulary = any(part.outputs == VOCABULARY for part in model.heads[MAIN].parts.values())
    names = []
    for module in modules:
        theirs = module_name(model.naming, module)
        if module.startswith("heads."):
            if module.endswith(".decoder"):
                continue
            theirs = theirs if vocabulary else theirs.partition(".")[0]
        names.append(theirs)
    return list(dict.fromkeys(names))
