"""The house: imports only go down, libraries stay behind their doors, files stay short."""

import ast
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "jaxft"
FLOORS = [
    "announce errors runtime plan_config optim_config config checks cli manual noise tree hlo utf8 gpu_target "
    "patterns yaml_text checksums lock urls output processes signals memory progress",
    "models data losses metrics strategies optim regularization sharding adapters",
    "tasks rundir record calls fit inputs claim",
    "step stages distill r_drop compiled used_words splits frame setup evaluation prefix "
    "intact checkpoint journal state restore loop parts inference features",
    "train evaluate predict export plan costs topology rates vocabulary hf __init__ __main__",
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}
FILES = sorted(PACKAGE.rglob("*.py"))


def unit(parts: tuple[str, ...]) -> str:
    """The row of FLOORS that a module belongs to: the name below jaxft."""
    return parts[1].removesuffix(".py") if len(parts) > 1 else "__init__"


def imports(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_house(path):
    me = unit(path.relative_to(ROOT).parts)
    assert me in FLOOR, f"{path.name}: give it a floor"
    found = imports(path)
    above = {n for n in found if n.startswith("jaxft.") and FLOOR.get(unit(tuple(n.split("."))), 0) > FLOOR[me]}
    assert not above, f"{path.name} on floor {FLOOR[me]} imports from above"
    libraries = {name.split(".")[0] for name in found}
    assert "flax" not in libraries or me == "models"
    assert "orbax" not in libraries or me == "checkpoint"
    assert "torch" not in libraries
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350
    allowed = {"runtime.py", "data/feed.py", "checkpoint.py", "journal.py"}
    assert "process_index" not in text or str(path.relative_to(PACKAGE)) in allowed


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_imports_another(path):
    """What tests share is in tests/support."""
    assert not {name for name in imports(path) if name.startswith("tests.") and ".test_" in name}
