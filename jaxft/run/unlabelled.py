"""Texts without labels for consistency training, read and tokenised as training data is."""

from dataclasses import replace

from jaxft.config import Config
from jaxft.core.errors import naming
from jaxft.run.run_tokenizer import Vocabulary
from jaxft.tasks.task import Split, Task


def read_unlabelled(config: Config, task: Task, vocabulary: Vocabulary) -> Split:
    """The texts of `unlabelled.data`; those that are empty are left out or refused as `data.empty_texts` says.

    Raises a UserError that names `unlabelled.data` for what is missing or malformed.
    """
    where = config.unlabelled.data
    data = replace(config.data, dataset=None, train=where, validation=None, test=None, max_train_examples=None)
    own = replace(config, data=data)
    with naming("unlabelled.data", instead_of="data.train"):
        rows = task.read(own, "train", labelled=False)
        return task.encode(rows, vocabulary.tokenizer, vocabulary.directory, own, str(where), labelled=False)
