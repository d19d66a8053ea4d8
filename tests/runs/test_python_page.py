"""The snippets of docs/python.md run, one after the other, with a tiny model."""

import re

import pytest

from tests.support import ROOT, tiny

PAGE = "docs/python.md"


@pytest.mark.slow
def test_the_snippets_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rates = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"), 0.0)
    model = tiny.write_model(tmp_path / "model", num_hidden_layers=1, **rates)
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    names = {"MODEL": str(model), "__name__": "python_page"}
    snippets = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for number, snippet in enumerate(snippets, 1):
        exec(compile(snippet, f"{PAGE}, snippet {number}", "exec"), names)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        *("mine", "careful", "loss", "metrics", "optimizer", "augmented", "task")
    }
    assert (tmp_path / "my_model/model.safetensors").is_file()
    assert (tmp_path / "runs/careful/best.txt").is_file()
    assert names["scores"].keys() >= {"eval/accuracy", "eval/loss"}
    assert names["run"].history[-1]["final"]
