"""Configs as runs record them: with all options, so that later defaults do not change a run."""

from collections.abc import Mapping
from typing import Any

# Sections without effect unless one of these options is given.
_SWITCHES = {
    "unlabelled": ("unlabelled.data",),
    "domains": ("domains.texts", "domains.column", "domains.files"),
    "sampling": ("tasks",),
}


def without_unused(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded config without sections that have no effect: an older version may have had other defaults in them.

    Such a default would be refused as an option without effect, or count as a difference from the config of today.
    """
    return {name: section for name, section in values.items() if name not in _SWITCHES or _is_used(name, values)}


def _is_used(name: str, values: Mapping[str, Any]) -> bool:
    for switch in _SWITCHES[name]:
        section, _, option = switch.rpartition(".")
        found = values.get(section) if section else values
        if isinstance(found, Mapping) and found.get(option) not in (None, False, []):
            return True
    return False
