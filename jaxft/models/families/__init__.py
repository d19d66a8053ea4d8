"""Model families as data. One without new mathematics needs one more `Family` and an entry here (CONTRIBUTING.md)."""

from collections.abc import Mapping
from typing import Any

from jaxft.core.errors import UserError, nearest
from jaxft.models.families.albert import ALBERT
from jaxft.models.families.bert import BERT
from jaxft.models.families.deberta import DEBERTA_V2
from jaxft.models.families.distilbert import DISTILBERT
from jaxft.models.families.electra import ELECTRA
from jaxft.models.families.family import Family
from jaxft.models.families.modernbert import MODERNBERT
from jaxft.models.families.roberta import CAMEMBERT, MPNET, ROBERTA, XLM_ROBERTA

FAMILIES: dict[str, Family] = {
    "albert": ALBERT,
    "bert": BERT,
    "camembert": CAMEMBERT,
    "deberta-v2": DEBERTA_V2,
    "distilbert": DISTILBERT,
    "electra": ELECTRA,
    "modernbert": MODERNBERT,
    "mpnet": MPNET,
    "roberta": ROBERTA,
    "xlm-roberta": XLM_ROBERTA,
}


def family_of(hf_config: Mapping[str, Any], where: str) -> Family:
    """The family of a config.json.

    Raises:
      UserError: for a missing or unknown `model_type`.
    """
    kind = hf_config.get("model_type")
    if kind is None:
        raise UserError(f'{where}: no "model_type"; jaxft reads {", ".join(FAMILIES)}')
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UserError(
            f'{where}: model_type "{kind}" is not one that jaxft reads ({", ".join(FAMILIES)}){nearest(str(kind), FAMILIES)}'
        )
    return FAMILIES[kind]


def kind_of(family: Family, hf_config: Mapping[str, Any]) -> str | None:
    """The task of the class in a checkpoint's `architectures`; None if jaxft has no such head."""
    architectures = hf_config.get("architectures")
    for architecture in architectures if isinstance(architectures, list) else []:
        for kind, name in family.classes.items():
            if architecture in (name, f"Flax{name}"):
                return kind
    return None
