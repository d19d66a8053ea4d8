"""The parameters that training alone has: projections of matches, and the domain classifier. No model is saved with them."""

from jaxft.core.tree import Params
from jaxft.step.domain_head import HEAD
from jaxft.step.matches import PROJECTION


def is_training_only(name: str) -> bool:
    """Whether a dotted name is that of such a parameter."""
    return name.startswith((f"{PROJECTION}.", f"heads.{HEAD}."))


def of_model(params: Params) -> Params:
    """The parameters of the model alone."""
    found = {name: part for name, part in params.items() if name != PROJECTION}
    if HEAD in found.get("heads", {}):
        found["heads"] = {name: head for name, head in found["heads"].items() if name != HEAD}
    return found
