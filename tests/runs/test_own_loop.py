"""The training loop of docs/own_loop.md ends with the same bits as `jaxft train`."""

import re

import pytest
import yaml

from jaxft.config import cli
from jaxft.train import train
from tests.support import ROOT, tiny


@pytest.mark.parametrize(
    "sections",
    [
        pytest.param({}, id="plain"),
        pytest.param(
            {"train": {"epochs": 2, "batch_size": 16, "micro_batches": 2}, "regularization": {"l2_sp": 0.1, "mixout": 0.2}},
            id="regularised",
            marks=pytest.mark.slow,
        ),
        pytest.param({"augment": {"steps": [{"step": "swap"}], "mixup": 0.4}}, id="augmented", marks=pytest.mark.slow),
    ],
)
def test_the_loop_of_the_page_ends_with_the_same_bits(tiny_model, tiny_data, tmp_path, monkeypatch, sections):
    config = tiny.run_config(tiny_model, tiny_data, tmp_path / "run", checkpoint={"select": "last"}, **sections)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(cli.as_dict(config)))
    page = (ROOT / "docs/own_loop.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(code.splitlines()) <= 50
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "own_loop.md", "exec"), {})
    train(config)
    expected = (tmp_path / "run/model/model.safetensors").read_bytes()
    assert (tmp_path / "model/model.safetensors").read_bytes() == expected
