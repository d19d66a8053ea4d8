"""The wheel holds all that a user needs: it runs from another directory, without the checkout."""

import json
import os
import subprocess
import sys
import zipfile

import pytest

from tests.support import ROOT, tiny


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pytest.importorskip("hatchling", reason="needs hatchling, which builds the wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.split("/")[0] for name in names}
    assert {x for x in folders if not x.endswith(".dist-info")} == {"jaxft"}
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "jaxft").rglob("*") if path.is_file()}
    assert {x for x in ours if "__pycache__" not in x} <= set(names)
    assert "jaxft/py.typed" in names


@pytest.mark.slow
def test_an_installed_wheel_trains_and_predicts(wheel, tmp_path):
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    tiny.write_model(folder / "base")
    for name, count in (("train", 40), ("dev", 10)):
        tiny.write_rows(folder / f"{name}.csv", count)
    environment = os.environ | {"PYTHONPATH": str(site)}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
        ).stdout

    assert str(site) in run("-c", "import jaxft; print(jaxft.__file__)")
    options = ["--data.train=train.csv", "--data.validation=dev.csv", "--data.max_length=32", "--train.max_steps=3"]
    run("-m", "jaxft", "train", "--model.path=base", "--output_dir=run", *options)
    run("-m", "jaxft", "predict", "run", "--input", "dev.csv", "--output", "found.jsonl")
    rows = [json.loads(line) for line in (folder / "found.jsonl").read_text().splitlines()]
    assert len(rows) == 10
    code = "import jaxft; print(jaxft.pipeline('run/model')('the river')[0]['label'])"
    assert run("-c", code).strip() in tiny.LABELS
