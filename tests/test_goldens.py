"""What Hugging Face's own Flax classes wrote (goldens/write_flax.py): jaxft opens it, computes the same, writes it back."""

from pathlib import Path

import numpy as np
import pytest
from flax import serialization

import jaxft
from jaxft.tree import flatten

GOLDENS = Path(__file__).parent / "goldens"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUTS = {"flax_bert_base": {"last_hidden_state", "pooler_output"}, "flax_bert_classifier": {"logits"}}


def msgpack(directory: Path) -> dict[tuple[str, ...], np.ndarray]:
    return flatten(serialization.msgpack_restore((directory / "flax_model.msgpack").read_bytes()))


@pytest.mark.parametrize("name", OUTPUTS)
def test_forward_gives_what_hugging_face_flax_gave(name):
    expected = dict(np.load(GOLDENS / name / "expected.npz"))
    model, params = jaxft.load(str(GOLDENS / name))
    outputs = jaxft.forward(model, params, {key: expected[key] for key in INPUTS})
    assert outputs.keys() == OUTPUTS[name]
    for key, ours in outputs.items():
        assert ours.shape == expected[key].shape
        assert np.abs(ours - expected[key]).max() <= 1e-5 * np.abs(expected[key]).max(), key
    assert model.report.new == model.report.unused == ()


@pytest.mark.parametrize("name", OUTPUTS)
def test_save_writes_the_same_msgpack(name, tmp_path):
    jaxft.save(*jaxft.load(str(GOLDENS / name)), tmp_path, flax=True)
    ours, theirs = msgpack(tmp_path), msgpack(GOLDENS / name)
    assert ours.keys() == theirs.keys()
    for key, x in theirs.items():
        assert (ours[key].dtype, ours[key].shape) == (x.dtype, x.shape), key
        assert ours[key].tobytes() == x.tobytes(), key


def test_both_formats_hold_the_same_model(tmp_path):
    golden = GOLDENS / "flax_bert_classifier"
    model, params = jaxft.load(str(golden))
    jaxft.save(model, params, tmp_path)
    assert not (tmp_path / "flax_model.msgpack").exists()
    again = flatten(jaxft.load(str(tmp_path))[1])
    assert again.keys() == flatten(params).keys()
    for key, x in flatten(params).items():
        assert again[key].tobytes() == x.tobytes(), key


def test_labels_come_from_the_config():
    assert jaxft.load(str(GOLDENS / "flax_bert_classifier"))[0].labels == ["angry", "calm", "merry"]
