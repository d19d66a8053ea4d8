"""The page docs/mutants.md, made of the results."""

import json
from pathlib import Path

from tests.mutants.faults import FAULTS
from tests.support import ROOT

PAGE = ROOT / "docs/mutants.md"
TEXT = """# Small faults, and which test catches each

Written by `python -m tests.mutants`, which makes each of these changes in a copy of the project and runs the tests until one
fails. The faults are in `tests/mutants/faults.py`; they were chosen by reading the package alone, without the tests.
The default tier (`make test`) catches {default} of {all}, the whole suite (`make test-all`) {caught}.

| fault | file | what a user would get | caught by | tier |
|---|---|---|---|---|
{rows}
"""


def page(results: dict[str, dict[str, str | None]]) -> str:
    """The page for `name -> {caught_by, tier}`."""
    rows = []
    for fault in FAULTS:
        found = results[fault.name]
        test = (found["caught_by"] or "nothing").removeprefix("tests/").replace("|", "\\|")
        rows.append(f"| {fault.name} | {fault.file.removeprefix('jaxft/')} | {fault.breaks} | {test} | {found['tier']} |")
    tiers = [found["tier"] for found in results.values()]
    caught = sum(tier is not None for tier in tiers)
    return TEXT.format(default=tiers.count("default"), all=len(FAULTS), caught=caught, rows="\n".join(rows))


def write(results: Path) -> None:
    """Write the page if every fault has a result."""
    found = json.loads(results.read_text(encoding="utf-8"))
    if all(fault.name in found for fault in FAULTS):
        PAGE.write_text(page(found), encoding="utf-8")
