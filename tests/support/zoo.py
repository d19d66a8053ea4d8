"""Random tiny configs of every family, in which no field has its default, and inputs for them. Needs no torch."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from jaxft.models.encoder.layers import ACTIVATIONS
from jaxft.models.families import FAMILIES

PAIRS = [(family, kind) for family in FAMILIES for kind in FAMILIES[family].classes]


def _covering() -> set[tuple[str, str]]:
    """A few pairs with every family and every kind of head: each family gets the kind that is rarest so far."""
    names = sorted({kind for _, kind in PAIRS})
    kinds = sorted(names, key=lambda kind: sum(kind == other for _, other in PAIRS))
    used: dict[str, int] = dict.fromkeys(kinds, 0)
    chosen = set()
    for family in FAMILIES:
        kind = min((k for k in kinds if k in FAMILIES[family].classes), key=used.__getitem__)
        used[kind] += 1
        chosen.add((family, kind))
    return chosen | {next(p for p in PAIRS if p[1] == kind) for kind in kinds if not used[kind]}


COVERING = _covering()


def pairs() -> list[Any]:
    """Every family with every kind of head, as parameters of a test; those that are not COVERING are slow."""
    marks = {pair: () if pair in COVERING else pytest.mark.slow for pair in PAIRS}
    return [pytest.param(family, kind, marks=marks[family, kind], id=f"{family}-{kind}") for family, kind in PAIRS]


# One of each kind of attention; the other families run the same code with other options.
FIRST = ("bert", "deberta-v2", "modernbert")


def families(first: Collection[str] = FIRST) -> list[Any]:
    """Every family, as parameters of a test; all but the first are slow."""
    return [pytest.param(family, marks=() if family in first else pytest.mark.slow, id=family) for family in FAMILIES]


@st.composite
def configs(draw, family: str) -> dict[str, Any]:
    """Legal tiny configs in which no field has its default."""
    heads = draw(st.sampled_from([1, 2, 3, 5]))
    hidden = heads * draw(st.sampled_from([8, 10]))
    layers = draw(st.integers(1, 3))
    acts = [name for name in ACTIVATIONS if name not in ("gelu", "gelu_new", "relu")]  # relu kinks spoil gradients
    act = draw(st.sampled_from(acts))
    eps = draw(st.sampled_from([1e-3, 1e-4, 1e-6]))
    spread = draw(st.sampled_from([0.01, 0.1, 0.2]))
    positions = draw(st.integers(26, 40))
    common = {
        "vocab_size": draw(st.integers(20, 60)),
        "initializer_range": spread,
        "max_position_embeddings": positions,
        "pad_token_id": draw(st.integers(2, 10)),
        "tie_word_embeddings": draw(st.booleans()),
        "num_labels": draw(st.sampled_from([1, 3, 7])),
    }
    bert = common | {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": draw(st.integers(8, 70)),
        "hidden_act": act,
        "hidden_dropout_prob": 0.2,
        "attention_probs_dropout_prob": 0.3,
        "classifier_dropout": 0.4,
        "type_vocab_size": draw(st.sampled_from([1, 3, 5])),
        "layer_norm_eps": eps,
    }
    width = draw(st.sampled_from([6, hidden]))
    if family == "distilbert":
        return common | {
            "dim": hidden,
            "n_layers": layers,
            "n_heads": heads,
            "hidden_dim": bert["intermediate_size"],
            "activation": act,
            "dropout": 0.2,
            "attention_dropout": 0.3,
            "seq_classif_dropout": 0.4,
            "qa_dropout": 0.15,
            "sinusoidal_pos_embds": draw(st.booleans()),
        }
    if family == "albert":
        groups = draw(st.integers(1, layers))
        return bert | {
            "embedding_size": width,
            "num_hidden_groups": groups,
            "inner_group_num": draw(st.integers(1, 2)),
            "classifier_dropout_prob": 0.35,
        }
    if family == "electra":
        return bert | {
            "embedding_size": width,
            "summary_activation": draw(st.sampled_from(["tanh", "mish"])),
            "summary_last_dropout": 0.25,
        }
    if family == "mpnet":
        return bert | {"relative_attention_num_buckets": draw(st.integers(33, 40)), "pad_token_id": 1}
    if family == "deberta-v2":
        relative = draw(st.booleans())
        return bert | {
            "type_vocab_size": draw(st.sampled_from([0, 2, 3])),
            "embedding_size": width,
            "legacy": draw(st.booleans()) or width != hidden or not bert["tie_word_embeddings"],
            "relative_attention": relative,
            "max_relative_positions": draw(st.sampled_from([-1, 9, 20])),
            "position_buckets": draw(st.sampled_from([-1, 4, 6])),
            "pos_att_type": draw(st.sampled_from(["c2p", "p2c", "c2p|p2c", ["p2c", "c2p"], []])),
            "share_att_key": draw(st.booleans()),
            "norm_rel_ebd": draw(st.sampled_from(["none", "layer_norm"])),
            "position_biased_input": draw(st.booleans()),
            "conv_kernel_size": draw(st.sampled_from([0, 1, 3, 5])),
            "conv_groups": draw(st.sampled_from([1, 2])),
            "conv_act": draw(st.sampled_from(["tanh", "silu"])),
            "pooler_dropout": 0.1,
            "pooler_hidden_act": draw(st.sampled_from(["tanh", "mish"])),
            "cls_dropout": 0.45,
        }
    if family == "modernbert":
        every = draw(st.sampled_from([1, 2]))
        return common | {
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": bert["intermediate_size"],
            "hidden_activation": act,
            "norm_eps": eps,
            "norm_bias": draw(st.booleans()),
            "attention_bias": draw(st.booleans()),
            "mlp_bias": draw(st.booleans()),
            "classifier_bias": draw(st.booleans()),
            "decoder_bias": draw(st.booleans()),
            "classifier_activation": draw(st.sampled_from(["tanh", "mish"])),
            "classifier_pooling": draw(st.sampled_from(["cls", "mean"])),
            "layer_types": ["full_attention" if i % (every + 1) == 0 else "sliding_attention" for i in range(layers)],
            "local_attention": draw(st.sampled_from([4, 7, 10])),
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 500.0},
                "sliding_attention": {"rope_type": "linear", "rope_theta": 40.0, "factor": 2.0},
            },
            "initializer_cutoff_factor": 1.5,
            "attention_dropout": 0.3,
            "mlp_dropout": 0.2,
            "embedding_dropout": 0.1,
            "classifier_dropout": 0.4,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "cls_token_id": 2,
            "sep_token_id": 3,
        }
    return bert


def inputs_for(
    family: str, kind: str, config: dict[str, Any], *, rows: int = 4, shortest: int = 1, length: int = 12, seed: int = 0
) -> dict[str, np.ndarray]:
    """Ragged numpy inputs, padded with the padding id."""
    rng = np.random.default_rng(seed)
    shape = (rows, 3, length) if kind == "multiple-choice" else (rows, length)
    lengths = rng.integers(shortest, length + 1, shape[:-1])
    lengths.flat[0] = length
    mask = (np.arange(length) < lengths[..., None]).astype(int)
    pad = config["pad_token_id"]
    ids = rng.integers(0, config["vocab_size"], shape)
    ids = np.where(ids == pad, (ids + 1) % config["vocab_size"], ids)
    inputs = {"input_ids": np.where(mask == 1, ids, pad), "attention_mask": mask}
    types = config.get("type_vocab_size", 0)
    if types and family not in ("distilbert", "mpnet", "modernbert"):
        inputs["token_type_ids"] = rng.integers(0, types, shape)
    return inputs


def real(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The part of an output that belongs to real tokens; outputs for padding mean nothing."""
    return x[mask == 1] if x.shape[: mask.ndim] == mask.shape else x


# Fields with which one model has every feature of its family.
FULL: dict[str, dict[str, Any]] = {
    "deberta-v2": {
        "relative_attention": True,
        "max_relative_positions": 9,
        "position_buckets": 4,
        "pos_att_type": ["c2p", "p2c"],
        "norm_rel_ebd": "layer_norm",
        "conv_kernel_size": 3,
    },
    "distilbert": {"n_layers": 3},
    "modernbert": {
        "num_hidden_layers": 3,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        "local_attention": 10,
    },
}


def fixed(family: str, kind: str, seed: int = 0) -> dict[str, Any]:
    """One config of `configs` for a head, always the same, with every feature of the family."""
    found: list[dict[str, Any]] = []

    @settings(max_examples=seed + 3, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(config=configs(family))
    def look(config: dict[str, Any]) -> None:
        found.append(config)

    look()
    return with_head(family, kind, found[-1] | FULL.get(family, {}))


def with_head(family: str, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """The config of a model with this head, as jaxft reads it."""
    labels = 2 if kind == "question-answering" else config["num_labels"]
    return config | {"model_type": family, "architectures": [FAMILIES[family].classes[kind]], "num_labels": labels}
