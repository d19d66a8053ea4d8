"""Write the Flax goldens beside this file, with Hugging Face's own Flax classes (transformers < 5, no torch needed):

    pip install "transformers<5" "flax<0.13" "jax<0.8" && python tests/goldens/write_flax.py

Each folder holds a tiny random model as `save_pretrained` writes it, and expected.npz: its inputs and outputs.
"""

from pathlib import Path

import jax
import numpy as np
import transformers as hf

HERE = Path(__file__).resolve().parent
LABELS = {"id2label": {0: "angry", 1: "calm", 2: "merry"}, "label2id": {"angry": 0, "calm": 1, "merry": 2}}
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
    "max_position_embeddings": 23,
    "type_vocab_size": 3,
    "initializer_range": 0.1,
    "pad_token_id": 2,
    "use_cache": False,
}
DISTIL = {
    "vocab_size": 41,
    "dim": 24,
    "n_layers": 2,
    "n_heads": 3,
    "hidden_dim": 40,
    "max_position_embeddings": 20,
    "activation": "relu",
    "pad_token_id": 1,
}
ALBERT = SIZES | {"embedding_size": 12, "num_hidden_groups": 2, "inner_group_num": 2, "num_hidden_layers": 4}
ELECTRA = SIZES | {"embedding_size": 12, "num_hidden_layers": 2}
MODELS = {
    "flax_bert_base": ("FlaxBertModel", SIZES | {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5, "pad_token_id": 1}),
    "flax_bert_classifier": (
        "FlaxBertForSequenceClassification",
        SIZES | LABELS | {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-3, "pad_token_id": 1},
    ),
    "flax_bert_pretraining": ("FlaxBertForPreTraining", SIZES),
    "flax_bert_untied": ("FlaxBertForMaskedLM", SIZES | {"tie_word_embeddings": False}),
    "flax_roberta_classifier": ("FlaxRobertaForSequenceClassification", SIZES | LABELS),
    "flax_roberta_words": ("FlaxRobertaForMaskedLM", SIZES),
    "flax_roberta_choice": ("FlaxRobertaForMultipleChoice", SIZES),
    "flax_xlm_roberta_tags": ("FlaxXLMRobertaForTokenClassification", SIZES | LABELS),
    "flax_distilbert_words": ("FlaxDistilBertForMaskedLM", DISTIL),
    "flax_distilbert_answer": ("FlaxDistilBertForQuestionAnswering", DISTIL),
    "flax_distilbert_classifier": ("FlaxDistilBertForSequenceClassification", DISTIL | LABELS),
    "flax_albert_pretraining": ("FlaxAlbertForPreTraining", ALBERT),
    "flax_albert_tags": ("FlaxAlbertForTokenClassification", ALBERT | LABELS),
    "flax_electra_replaced": ("FlaxElectraForPreTraining", ELECTRA),
    "flax_electra_words": ("FlaxElectraForMaskedLM", ELECTRA),
    "flax_electra_choice": ("FlaxElectraForMultipleChoice", ELECTRA),
}


def main() -> None:
    jax.config.update("jax_default_matmul_precision", "highest")
    for seed, (name, (class_name, values)) in enumerate(MODELS.items()):
        if (HERE / name).exists():
            continue
        rng = np.random.default_rng(seed)
        model_class = getattr(hf, class_name)
        config = model_class.config_class(**values)
        model = model_class(config, seed=seed)
        # Biases and layer norms start as zeros and ones, which would hide a mix-up.
        model.params = jax.tree.map(lambda x: (x + rng.normal(0, 0.1, x.shape)).astype(np.float32), model.params)
        lengths = np.array([17, 9, 1, 20])
        ids = rng.integers(3, 41, (4, 20))
        mask = np.arange(20)[None] < lengths[:, None]
        inputs = {
            "input_ids": np.where(mask, ids, config.pad_token_id),
            "attention_mask": mask,
            "token_type_ids": rng.integers(0, 3, (4, 20)),
        }
        if "DistilBert" in class_name:
            inputs.pop("token_type_ids")
        if "MultipleChoice" in class_name:
            inputs = {key: x.reshape(2, 2, 20) for key, x in inputs.items()}
        inputs = {key: x.astype(np.int32) for key, x in inputs.items()}
        outputs = {key: np.asarray(x) for key, x in model(**inputs).items()}
        model.save_pretrained(HERE / name)
        np.savez_compressed(HERE / name / "expected.npz", **inputs, **outputs)


if __name__ == "__main__":
    main()
