"""The difference between jaxft's and PyTorch's outputs, for every family and head, in float32 and bfloat16.

    python -m benchmarks.parity --configs 5      # writes benchmarks/results/parity.json and docs/models.md's table

A cell is the largest difference of an output at a real token, over several tiny random configs, relative to the largest
output. For bfloat16, jaxft's and PyTorch's outputs in bfloat16 are both compared with PyTorch's in float32.
"""

import argparse
import json
import platform
import re
import tempfile
from pathlib import Path

import hypothesis
import numpy as np
import torch

import jaxft
from jaxft.models.families import FAMILIES
from tests.support import zoo, zoo_torch

DOCS = Path(__file__).resolve().parents[1] / "docs/models.md"
BEGIN, END = "<!-- parity -->", "<!-- /parity -->"


def difference(found: dict, expected: dict, mask: np.ndarray) -> float:
    """Largest relative difference at real tokens."""
    worst = 0.0
    for name, x in expected.items():
        right = zoo.real(x, mask)
        worst = max(worst, float(np.abs(zoo.real(found[name], mask) - right).max() / np.abs(right).max()))
    return worst


def measure(family: str, kind: str, config: dict, seed: int) -> dict[str, float]:
    """The three differences of one config."""
    model = zoo_torch.torch_model(family, kind, config, seed)
    inputs = zoo.inputs_for(family, kind, config, seed=seed)
    expected, mask = zoo_torch.run_torch(model, inputs), inputs["attention_mask"]
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        ours = {dtype: jaxft.forward(*jaxft.load(folder, dtype=dtype), inputs) for dtype in ("float32", "bfloat16")}
    rounded = zoo_torch.run_torch(model.to(torch.bfloat16), inputs)
    return {
        "float32": difference(ours["float32"], expected, mask),
        "bfloat16": difference(ours["bfloat16"], expected, mask),
        "torch_bfloat16": difference(rounded, expected, mask),
    }


def configs_of(family: str, count: int) -> list[dict]:
    """The first configs of the zoo; always the same."""
    found: list[dict] = []

    @hypothesis.settings(
        max_examples=count, deadline=None, derandomize=True, database=None, phases=[hypothesis.Phase.generate]
    )
    @hypothesis.given(config=zoo.configs(family))
    def look(config: dict) -> None:
        found.append(config)

    look()
    return found


def table(rows: dict[str, dict[str, dict[str, float]]]) -> str:
    """A Markdown table with a row per family and a column per head: `float32 / bfloat16 (PyTorch's bfloat16)`."""
    kinds = list(dict.fromkeys(kind for heads in rows.values() for kind in heads))
    lines = ["| family | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for family, heads in rows.items():
        cells = [
            f"{h['float32']:.0e} / {h['bfloat16']:.0e} ({h['torch_bfloat16']:.0e})" if (h := heads.get(kind)) else ""
            for kind in kinds
        ]
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", type=int, default=5, help="random configs a cell")
    parser.add_argument("--output", default="benchmarks/results/parity.json")
    args = parser.parse_args()
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for family, row in FAMILIES.items():
        rows[family] = {}
        for kind in row.classes:
            found = [measure(family, kind, c, i) for i, c in enumerate(configs_of(family, args.configs))]
            rows[family][kind] = {name: max(f[name] for f in found) for name in found[0]}
            print(family, kind, {name: f"{x:.1e}" for name, x in rows[family][kind].items()}, flush=True)
    output = Path(args.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "configs": args.configs}
    output.write_text(json.dumps({"versions": versions, "rows": rows}, indent=2) + "\n")
    text = DOCS.read_text(encoding="utf-8")
    found = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table(rows)}\n{END}", text, flags=re.DOTALL)
    DOCS.write_text(found, encoding="utf-8")


if __name__ == "__main__":
    main()
