"""Texts without labels, read and tokenised as training data is."""

from dataclasses import replace

from jaxft.config import Config
from jaxft.core.errors import naming
from jaxft.data.reading import files
from jaxft.run.run_tokenizer import Vocabulary
from jaxft.tasks.task import Split, Task


def config_of_texts(config: Config, where: str | list[str]) -> Config:
    """The config in which the files `where` are the training data."""
    none = {"dataset": None, "validation": None, "test": None, "max_train_examples": None}
    return replace(config, data=replace(config.data, train=where, **none))


def read_unlabelled(config: Config, task: Task, vocabulary: Vocabulary, where: str | list[str], option: str) -> Split:
    """The texts in the files `where`; those that are empty are left out or refused as `data.empty_texts` says.

    Raises a UserError that names `option` for what is missing or malformed. Masked words need no labels, and are read as in
    training.
    """
    own, labelled = config_of_texts(config, where), task.masks_inputs
    tokens, origin = (vocabulary.tokenizer, vocabulary.directory), files.origin(own.data, "train")
    with naming(option, instead_of="data.train"):
        return task.encode(task.read(own, "train", labelled=labelled), *tokens, own, origin, labelled=labelled)
