"""The folders of the package: imports only go down, without cycles; each library has its folder; files stay short."""

import ast
from graphlib import TopologicalSorter
from importlib.util import module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "jaxft"
FLOORS = [
    "core",
    "config",
    "parallel models param_plan losses data",
    "optim tasks",
    "step",
    "run",
    "evaluation pipelines report teacher_cache",
    "training preflight deploy serving",
    "train evaluate predict export plan teach clean augment weigh suspicious_labels self_train trainer vocabulary "
    "completion serve hf __init__ __main__",
]
MAX_FLOORS = 9
FLOOR = {folder: floor for floor, folders in enumerate(FLOORS) for folder in folders.split()}
FILES = sorted(PACKAGE.rglob("*.py"))
# The files that a reader opens.
TO_THE_LOSS = "train training/loop run/loss tasks/task tasks/text_classification losses"


def dotted(path: Path) -> str:
    """The name below jaxft of a module or package, such as models.encoder.blocks."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__") or "__init__"


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


def own_imports(path: Path) -> set[str]:
    """Names below jaxft of the modules and packages that a file imports."""
    names = set()
    for name in (x.removeprefix("jaxft.") for x in imports(path) if x.startswith("jaxft.")):
        names.add(name if name in MODULES else name.rpartition(".")[0])
    return names & MODULES.keys()


MODULES = {dotted(path): path for path in FILES}


def folder_of(name: str) -> str:
    """The folder in FLOORS that a module belongs to."""
    return name.partition(".")[0]


def test_there_are_few_floors():
    assert len(FLOORS) <= MAX_FLOORS


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_imports_go_down(path):
    me = dotted(path)
    assert folder_of(me) in FLOOR, f"{path.name}: add {folder_of(me)} to FLOORS"
    found = imports(path)
    above = {name for name in own_imports(path) if FLOOR[folder_of(name)] > FLOOR[folder_of(me)]}
    assert not above, f"{me} on floor {FLOOR[folder_of(me)]} imports from above"
    libraries = {name.split(".")[0] for name in found}
    assert "flax" not in libraries or folder_of(me) == "models"
    assert "orbax" not in libraries or me == "training.checkpoint"
    assert "torch" not in libraries
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350
    assert "process_index" not in text or me in {
        "core.cluster", "core.distributed", "core.watchdog",
        "data.batching.prefetch", "training.checkpoint", "training.journal",
    }  # fmt: skip


def folders_below(folder: str) -> dict[str, set[str]]:
    """What each folder and module of a folder (`models`; "" is the package) imports of the others."""
    prefix = f"{folder}." if folder else ""

    def child(name: str) -> str | None:
        if name == folder:
            return "__init__"
        return name.removeprefix(prefix).split(".")[0] if name.startswith(prefix) else None

    graph: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        if (me := child(name)) is not None:
            graph.setdefault(me, set()).update({child(x) for x in own_imports(path)} - {me, None})
    return graph


@pytest.mark.parametrize("folder", ["", *sorted(dotted(p.parent / "__init__.py") for p in PACKAGE.glob("*/**/__init__.py"))])
def test_there_are_no_import_cycles(folder):
    """Neither among the folders of a folder nor among its modules."""
    TopologicalSorter(folders_below(folder)).prepare()  # raises CycleError, which names them


def test_the_diagram_of_the_folders_is_current():
    spec = spec_from_file_location("folders", ROOT / "docs/folders.py")
    assert spec is not None
    assert spec.loader is not None
    folders = module_from_spec(spec)
    spec.loader.exec_module(folders)
    assert folders.page() == folders.PAGE.read_text(encoding="utf-8"), "run python docs/folders.py"


def test_a_reader_reaches_the_loss_within_eight_files():
    """From the command to the line that computes it: each file imports the next; a task is found by its name."""
    files = TO_THE_LOSS.split()
    assert len(files) <= 8
    assert " -> ".join(f"`{name}`" for name in files) in (ROOT / "docs/design.md").read_text(encoding="utf-8")
    for name, following in pairwise(files):
        if name != "tasks/task":
            assert following.replace("/", ".") in own_imports(PACKAGE / f"{name}.py")


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_imports_another(path):
    """Tests share code in tests/support."""
    assert not {name for name in imports(path) if name.startswith("tests.") and ".test_" in name}
