"""The outputs of model.stablehlo for texts: python run.py TEXT [TEXT ...]; needs jax, flatbuffers, numpy, tokenizers."""

import json
import sys
from pathlib import Path

import flatbuffers  # noqa: F401  # with which jax.export reads programs
import jax
import numpy as np
from jax import export
from tokenizers import Tokenizer

folder = Path(__file__).parent
about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
try:
    program = export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
except Exception as error:  # whatever a damaged file, or one of another version, leads to
    made = f"model.stablehlo was made by jax {about['versions']['jax']}; jax {jax.__version__} cannot read it"
    raise SystemExit(f"{made} ({str(error)[:200]}): make it again with {about['command']}") from error
params = dict(np.load(folder / "params.npz"))
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
tokenizer.enable_truncation(about["max_length"])
tokenizer.enable_padding(pad_id=about["pad_token_id"])
rows = tokenizer.encode_batch(sys.argv[1:] or sys.exit(__doc__))
columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
inputs = {name: np.array([getattr(row, columns[name]) for row in rows], np.int32) for name in about["inputs"]}
inputs = {name: x[None] if about["task"] == "multiple-choice" else x for name, x in inputs.items()}
outputs = jax.jit(program.call)(params, inputs)
print(json.dumps({name: np.asarray(x).tolist() for name, x in outputs.items()}))
