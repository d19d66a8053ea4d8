"""The words that a masked language model proposes for the masks of texts."""

from collections.abc import Sequence
from dataclasses import replace

from jaxft.config import Config, DataConfig, TaskConfig
from jaxft.core.errors import UserError
from jaxft.data.augmentation.masked_words import Proposals
from jaxft.evaluation import inference

_KINDS = ("fill-mask", "pretraining")
_SPARE = 5  # words beyond those that are asked for: some are the word itself, or no words


def proposals(path: str, config: Config, count: int) -> Proposals:
    """The `count` best words, and a few more, of the masked LM `path` (model.path) for every mask of a text.

    Raises:
      UserError: if the checkpoint has no masked LM head.
    """
    import datasets

    kind, _ = inference.head_of(path, config)
    if kind not in _KINDS:
        raise UserError(
            f"augment.steps: source is masked_lm, but model.path {path} is a {kind} model: give "
            "a checkpoint with a masked LM head"
        )
    data = DataConfig(test=config.data.train, max_length=config.data.max_length, empty_texts="null", cache=False)
    task = TaskConfig(name="fill-mask", n_best=count + _SPARE)
    opened = inference.load_for_inference(path, replace(config, data=data, task=task))

    def propose(texts: Sequence[str]) -> list[list[list[str]]]:
        rows = datasets.Dataset.from_dict({"text": list(texts)})
        found = inference.predict(opened, rows, "test")
        return [[[x["token_str"].strip() for x in mask] for mask in row["masks"] or []] for row in found]

    return propose
