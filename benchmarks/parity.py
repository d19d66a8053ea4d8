"""The difference between jaxft's and PyTorch's outputs, for every family and head, in float32 and bfloat16.

    python -m benchmarks.parity --configs 5      # writes benchmarks/results/parity.json and docs/models.md's table

A cell is the largest difference of an output at a real token, over several tiny random configs, relative to the largest
output. For bfloat16, jaxft's and PyTorch's outputs in bfloat16 are both compared with PyTorch's in float32.
"""

import platform
import tempfile
from pathlib import Path

import hypothesis
import numpy as np
import torch

import jaxft
from benchmarks import pages, record
from benchmarks.command import make_parser
from jaxft.models.families import FAMILIES
from tests.support import zoo, zoo_torch

PAGE = Path(__file__).resolve().parents[1] / "docs/models.md"
Rows = dict[str, dict[str, dict[str, float]]]  # family -> head -> differences by name


def difference(found: dict, expected: dict, mask: np.ndarray) -> float:
    """The largest relative difference at real tokens."""
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
    """The first configs of the zoo, which are always the same."""
    found: list[dict] = []

    @hypothesis.settings(
        max_examples=count, deadline=None, derandomize=True, database=None, phases=[hypothesis.Phase.generate]
    )
    @hypothesis.given(config=zoo.configs(family))
    def add(config: dict) -> None:
        found.append(config)

    add()
    return found


def table(rows: Rows) -> list[str]:
    """A Markdown table with a row per family and a column per head: `float32 / bfloat16 (PyTorch's bfloat16)`."""
    kinds = list(dict.fromkeys(kind for heads in rows.values() for kind in heads))

    def cell(found: dict[str, float]) -> str:
        return f"{found['float32']:.0e} / {found['bfloat16']:.0e} ({found['torch_bfloat16']:.0e})"

    body = [[family, *(cell(heads[kind]) if kind in heads else "" for kind in kinds)] for family, heads in rows.items()]
    return pages.table(("family", *kinds), body)


def main() -> None:
    parser = make_parser(__doc__, "parity.json")
    parser.add_argument("--configs", type=int, default=5, help="random configs per cell")
    args = parser.parse_args()
    rows: Rows = {}
    for family, row in FAMILIES.items():
        rows[family] = {}
        for kind in row.classes:
            found = [measure(family, kind, c, i) for i, c in enumerate(configs_of(family, args.configs))]
            rows[family][kind] = {name: max(f[name] for f in found) for name in found[0]}
            print(family, kind, {name: f"{x:.1e}" for name, x in rows[family][kind].items()}, flush=True)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "configs": args.configs}
    record.write(args.output, {"versions": versions, "rows": rows})
    pages.write(PAGE, {"parity": table(rows)})


if __name__ == "__main__":
    main()
