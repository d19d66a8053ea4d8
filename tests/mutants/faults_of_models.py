"""Faults of models, their layers and their files."""

from tests.mutants.fault import Fault

FAULTS: tuple[Fault, ...] = (
    # Models
    Fault(
        "convolution-mixes-packed-examples",
        "jaxft/models/encoder/disentangled.py",
        "jnp.roll(segment_ids, -shift, axis=1) == segment_ids",
        "jnp.roll(segment_ids, -shift, axis=1) > 0",
        "DeBERTa's convolution reads the neighbouring example of a packed row.",
    ),
    Fault(
        "window-one-token-short",
        "jaxft/models/encoder/fused_attention.py",
        "position[None, :]) <= window)[None]",
        "position[None, :]) < window)[None]",
        "ModernBERT's local layers do not see the outermost token of their window, which shows in long texts only.",
    ),
    Fault(
        "attention-gradient-ignores-dropout",
        "jaxft/models/encoder/attention.py",
        "jnp.where(signed > 0, dp, 0)",
        "dp",
        "Queries and keys get gradients through probabilities that dropout has dropped.",
    ),
    Fault(
        "layers-share-dropout-key",
        "jaxft/models/encoder/encoder.py",
        "k = fold(layers_key, done)",
        "k = fold(layers_key, i)",
        "All layers of an encoder drop at the same places.",
    ),
    Fault(
        "dora-norm-with-gradient",
        "jaxft/models/encoder/layers.py",
        "jnp.linalg.norm(jax.lax.stop_gradient(kernel + lora.scale * dense(a, b)), axis=0)",
        "jnp.linalg.norm(kernel + lora.scale * dense(a, b), axis=0)",
        "DoRA trains by other gradients than the paper's and PEFT's.",
    ),
    Fault(
        "tied-tensors-not-written",
        "jaxft/models/load_save.py",
        "model.origin.copies.items() if of in flat}",
        "model.origin.copies.items() if copy in flat}",
        "A saved masked-LM model lacks the decoder's tensors that the checkpoint had beside the tied words.",
    ),
    Fault(
        "merges-not-copied",
        "jaxft/core/model_source.py",
        '"merges.txt", ',
        "",
        "The model directory of a run from a RoBERTa without tokenizer.json has a tokenizer that cannot be read.",
    ),
    Fault(
        "lora-scale-counted-twice",
        "jaxft/models/peft/read_adapter.py",
        "scales[module_name(naming, module)] / kind.scale if kind.scale else 1.0",
        "scales[module_name(naming, module)] if kind.scale else 1.0",
        "An adapter that is loaded changes its base by alpha / rank too much or too little, unless that is 1.",
    ),
    Fault(
        "untied-decoder-taken-as-tied",
        "jaxft/models/families/family.py",
        "tied = bool(_value(part.tied, read))",
        "tied = bool(part.tied)",
        "A masked-LM checkpoint with tie_word_embeddings false scores words by its embeddings; its decoder is dropped.",
    ),
    Fault(
        "distilbert-drops-after-attention",
        "jaxft/models/families/distilbert.py",
        'DropoutSite.OUTPUT: ("dropout",),',
        'DropoutSite.OUTPUT: ("dropout",), DropoutSite.ATTENTION_OUTPUT: ("dropout",),',
        "DistilBERT is trained with a dropout after attention that Hugging Face's does not have.",
    ),
    Fault(
        "labels-not-mixed",
        "jaxft/step/mixup.py",
        "part(others, 1 - ratio, 1 - self._ratio)",
        "part(labels, 1 - ratio, 1 - self._ratio)",
        "Hidden states of pairs are mixed, but each example is trained on its own label alone.",
    ),
    Fault(
        "target-of-consistency-with-gradient",
        "jaxft/step/consistency.py",
        "original = jax.lax.stop_gradient(jnp.roll(logits, 1, axis=1))",
        "original = jnp.roll(logits, 1, axis=1)",
        "UDA also pulls the prediction for a text to that for its augmented version.",
    ),
    Fault(
        "cutoff-by-place-in-the-row",
        "jaxft/step/cutoff.py",
        'order, _ = example_bits(key, jnp.take_along_axis(example, slot, axis=-1), batch["position_ids"])',
        'order, _ = example_bits(key, slot, batch["position_ids"])',
        "Which tokens are cut depends on where the layout puts an example.",
    ),
)
