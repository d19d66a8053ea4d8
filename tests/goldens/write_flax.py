"""Write the Flax goldens beside this file, with Hugging Face's own Flax classes (transformers < 5, no torch needed):

    pip install "transformers<5" "flax<0.13" "jax<0.8" && python tests/goldens/write_flax.py

Each folder holds a tiny random model as `save_pretrained` writes it, and expected.npz: its inputs and outputs.
"""

from pathlib import Path

import jax
import numpy as np
from transformers import BertConfig, FlaxBertForSequenceClassification, FlaxBertModel

HERE = Path(__file__).resolve().parent
# No field has its default.
SIZES = {
    "vocab_size": 41,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "hidden_dropout_prob": 0.15,
    "attention_probs_dropout_prob": 0.05,
    "classifier_dropout": 0.2,
    "max_position_embeddings": 20,
    "type_vocab_size": 3,
    "initializer_range": 0.1,
    "pad_token_id": 1,
    "use_cache": False,
}
MODELS = {
    "flax_bert_base": (FlaxBertModel, {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5}),
    "flax_bert_classifier": (
        FlaxBertForSequenceClassification,
        {
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-3,
            "id2label": {0: "angry", 1: "calm", 2: "merry"},
            "label2id": {"angry": 0, "calm": 1, "merry": 2},
        },
    ),
}


def main() -> None:
    jax.config.update("jax_default_matmul_precision", "highest")
    for seed, (name, (model_class, changes)) in enumerate(MODELS.items()):
        rng = np.random.default_rng(seed)
        config = BertConfig(**SIZES, **changes)
        model = model_class(config, seed=seed)
        # Biases and layer norms start as zeros and ones, which would hide a mix-up.
        model.params = jax.tree.map(lambda x: (x + rng.normal(0, 0.1, x.shape)).astype(np.float32), model.params)
        lengths = [17, 9, 1, 20]
        inputs = {
            "input_ids": rng.integers(0, 41, (4, 20)),
            "attention_mask": np.arange(20)[None] < np.array(lengths)[:, None],
            "token_type_ids": rng.integers(0, 3, (4, 20)),
        }
        inputs = {key: x.astype(np.int32) for key, x in inputs.items()}
        outputs = {key: np.asarray(x) for key, x in model(**inputs).items()}
        model.save_pretrained(HERE / name)
        np.savez_compressed(HERE / name / "expected.npz", **inputs, **outputs)


if __name__ == "__main__":
    main()
