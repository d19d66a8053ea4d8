"""docs/models.md shows what benchmarks/parity.py measured, with every cell, and bfloat16 is as good as documented."""

import json
from pathlib import Path

import numpy as np
import pytest

import jaxft
from jaxft.models.families import FAMILIES
from tests.support import zoo

torch = pytest.importorskip("torch")

from benchmarks import pages, parity  # noqa: E402
from tests.support import zoo_torch  # noqa: E402

RESULTS = Path(parity.__file__).parent / "results/parity.json"


def test_the_table_is_the_measurement():
    rows = json.loads(RESULTS.read_text())["rows"]
    assert {family: list(heads) for family, heads in rows.items()} == {f: list(row.classes) for f, row in FAMILIES.items()}
    assert pages.section("parity", parity.table(rows)) in parity.PAGE.read_text(encoding="utf-8")
    assert max(cell["float32"] for heads in rows.values() for cell in heads.values()) <= 1e-5


@pytest.mark.parametrize("family", zoo.families(("bert",)))
def test_bfloat16_is_as_near_as_pytorchs(family, tmp_path):
    """By the median distance of a token from float32; the largest depends on a single token."""
    config = zoo.fixed(family, "fill-mask")
    ours, theirs = [], []
    for seed in range(3):
        torch_model = zoo_torch.torch_model(family, "fill-mask", config, seed)
        inputs = zoo.inputs_for(family, "fill-mask", config, rows=6, shortest=12, length=12, seed=seed)
        torch_model.save_pretrained(tmp_path)
        right = zoo_torch.run_torch(torch_model, inputs)["logits"]
        found = jaxft.forward(*jaxft.load(str(tmp_path), dtype="bfloat16"), inputs)["logits"]
        rounded = zoo_torch.run_torch(torch_model.to(torch.bfloat16), inputs)["logits"]
        ours.append(np.abs(found - right).max(-1))
        theirs.append(np.abs(rounded - right).max(-1))
    assert 0 < np.median(ours) <= 1.5 * np.median(theirs)
