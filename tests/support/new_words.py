"""A model whose tokenizer splits most words of a corpus into letters, so that they may be added as new words."""

from pathlib import Path

import jaxft
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.models.model import make_model
from tests.support import running_text, tiny, vocabularies

WORDS = ["brightly", "river", "bridge", "stone"]  # words of the corpus that the tokenizer splits


def write(path: Path) -> Path:
    """A corpus, labelled rows, and a model whose tokenizer has few words and all letters."""
    for seed, name in enumerate(("train", "dev")):
        running_text.write(path / f"{name}.txt", 60, seed)
        tiny.write_rows(path / f"{name}.csv", 100, seed)
    (path / "model").mkdir()
    vocabularies.letters(path / "model", ["the", "runs", "over", "old", "and", "under", "a", "sun"])
    config = tiny.CONFIG | {"vocab_size": len(load_tokenizer(path / "model")), "num_hidden_layers": 1}
    config["architectures"] = ["BertForMaskedLM"]
    model = make_model(config, "fill-mask", "tiny")
    jaxft.save(model, tiny.random_params(model), path / "model")
    return path
