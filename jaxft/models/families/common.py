"""Shared data of the families: task names, class names, and parts that most families have."""

from dataclasses import replace

from jaxft.models.encoder.config import Fields
from jaxft.models.heads import FIRST, LABELS, TOKENS, VOCABULARY, Field, Part, Transform

CLASSIFY, TAG, ANSWER, CHOOSE = "text-classification", "token-classification", "question-answering", "multiple-choice"
FILL, NEXT, PRETRAIN, FEATURES = "fill-mask", "next-sentence-prediction", "pretraining", "feature-extraction"
OWN_HEAD = ("classifier_dropout", "hidden_dropout_prob")
BERT_ACT = Field("hidden_act", "gelu")
TIED = Field("tie_word_embeddings", True)
CLASSIFIER = {"classifier": "classifier"}
TAGGER = Part(TOKENS, LABELS, CLASSIFIER, dropout=OWN_HEAD)
QUESTION = Part(TOKENS, 2, {"classifier": "qa_outputs"})


def classes(name: str, *kinds: str) -> dict[str, str]:
    """Hugging Face's class names by task."""
    endings = {
        FEATURES: "Model",
        CLASSIFY: "ForSequenceClassification",
        TAG: "ForTokenClassification",
        ANSWER: "ForQuestionAnswering",
        CHOOSE: "ForMultipleChoice",
        FILL: "ForMaskedLM",
        NEXT: "ForNextSentencePrediction",
        PRETRAIN: "ForPreTraining",
    }
    return {kind: name + endings[kind] for kind in (FEATURES, CLASSIFY, TAG, ANSWER, CHOOSE, FILL, *kinds)}


def words(transform: Transform, dense: str, norm: str, decoder: str, bias: str | None = None) -> Part:
    """A part for masked language modelling.

    Args:
      transform: the layer before the decoder.
      dense, norm: Hugging Face's modules of the transform.
      decoder: Hugging Face's module of the product with the word embeddings.
      bias: Hugging Face's module with the decoder's bias, if the decoder is tied; None means `decoder`.
    """
    copies = {f"{decoder}.weight": "words"} | ({f"{decoder}.bias": f"{bias}.bias"} if bias else {})
    names = {"transform.dense": dense, "transform.LayerNorm": norm, "decoder": bias or decoder}
    return Part(TOKENS, VOCABULARY, names, transform, copies=copies, tied=TIED)


def inside(part: Part, module: str) -> Part:
    """The part as a module of a head with several parts."""
    return replace(part, module=module, names={f"{module}.{name}": hf_name for name, hf_name in part.names.items()})


def two_layers(activation: str, drop: Fields) -> Part:
    """A classifier of two dense layers on the first token, with dropout before both."""
    names = {"transform.dense": "classifier.dense", "classifier": "classifier.out_proj"}
    return Part(FIRST, LABELS, names, Transform(activation), input_dropout=drop, dropout=drop)


def heads(
    classify: Part, fill: Part, *, tag: Part = TAGGER, answer: Part = QUESTION, choose: Part | None = None
) -> dict[str, dict[str, Part]]:
    """The heads that all families have; multiple choice is by default the classifier with one output, a choice's score."""
    choose = choose or replace(classify, outputs=1, squeeze=True)
    parts = {CLASSIFY: classify, TAG: tag, ANSWER: answer, CHOOSE: choose, FILL: fill}
    return {FEATURES: {}, **{kind: {"logits": part} for kind, part in parts.items()}}
