"""What all pipelines share: single inputs, lists and iterators, in chunks, in batches of declared shapes."""

import abc
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from jaxft.core.errors import UserError
from jaxft.data.batching.collect import Summary
from jaxft.data.batching.declared_shapes import declare_shapes
from jaxft.data.batching.prefetch import prefetch
from jaxft.data.tokens.encode import Examples
from jaxft.evaluation.chunks import predict_step
from jaxft.evaluation.declared_forward import DeclaredForward
from jaxft.evaluation.inference import LoadedModel
from jaxft.models.encoder import fused_attention
from jaxft.pipelines.texts import TextEncoder
from jaxft.tasks.task import Batch, Outputs

FIRST = 64  # inputs that are tokenised at first, so that the first results come soon
TOKENS = {"cpu": 2048}  # of the largest step
TOKENS_OF_ACCELERATORS = 32_768


@dataclass(frozen=True)
class Encoded:
    """Tokenised inputs: their examples, and whatever decoding needs, one note for each input."""

    examples: Examples
    notes: Sequence[Any] = field(default_factory=tuple)


class Pipeline(abc.ABC):
    """Applies a fine-tuned model to inputs that are in memory; made by `jaxft.pipeline`.

    A call takes one input, a list of inputs, which gives a list of results, or any other iterable, which gives an iterator
    of results that reads ahead by one chunk. Options of a call replace those of `jaxft.pipeline`.

    Attributes:
      task: Hugging Face's name of the task.
      model: the model with its tokenizer.
      options: the options of every call.
      encoder: cleans and tokenises texts.
      forward: applies the model to examples, in batches of the declared shapes.
    """

    task: ClassVar[str]
    accepts: ClassVar[frozenset[str]] = frozenset()  # names of the options of a call
    chunk: ClassVar[int] = 1024  # inputs that are tokenised at once
    single: ClassVar[tuple[type, ...]] = (str, Mapping)  # the types of one input

    def __init__(self, model: LoadedModel, max_length: int, options: Mapping[str, Any]) -> None:
        """Prepare the batches; nothing is compiled yet."""
        self.model = model
        self.encoder = TextEncoder(model.tokenizer, max_length, model.config.data.clean)
        self.options: Mapping[str, Any] = {}
        self.options = self.merged(options)
        platform = model.mesh.devices.flat[0].platform
        shapes = declare_shapes(
            self.longest,
            TOKENS.get(platform, TOKENS_OF_ACCELERATORS) * model.mesh.size,
            model.mesh.size,
            lambda length: fused_attention.padded_length(length, platform=platform),
        )
        step = partial(predict_step, model=model.model, summarise=self.summarise, prepare=self.prepare)
        self.forward = DeclaredForward(step, model.params, model.mesh, shapes, self.encode(self.probe(), {}).examples)

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"<jaxft.pipeline {self.task}, {self.model.model.hf_config['model_type']}{options}>"

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """The result of one input, a list of the results of a list, or an iterator of those of another iterable.

        Raises:
          UserError: for an input or an option that the task does not have.
        """
        options = self.merged(options)
        if isinstance(inputs, self.single):
            return self._one(inputs, options)
        if isinstance(inputs, (list, tuple)):
            return list(self._results(inputs, options))
        if not isinstance(inputs, Iterable):
            raise UserError(f"the input is {inputs!r}: must be {self.describes()}, a list or another iterable of them")
        return self._results(inputs, options)

    def warm_up(self) -> "Pipeline":
        """Compile the programs of all shapes now, not at their first use; nothing is compiled later."""
        self.forward.warm_up()
        return self

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return self.encoder.max_length

    def probe(self) -> Sequence[Any]:
        """An input, for the columns of the examples."""
        return ["a"]

    @abc.abstractmethod
    def describes(self) -> str:
        """What one input is, for messages."""

    @abc.abstractmethod
    def encode(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Encoded:
        """Tokenise inputs.

        Raises:
          UserError: for an input that is not what `describes` says.
        """

    @abc.abstractmethod
    def summarise(self, outputs: Outputs, batch: Batch) -> Summary:
        """What to read back of the outputs of a batch."""

    def texts(self, inputs: Sequence[Any]) -> list[str]:
        """The cleaned texts of inputs that must be texts.

        Raises:
          UserError: for one that is not.
        """
        for value in inputs:
            if not isinstance(value, str):
                raise UserError(f"an input is {value!r:.100}: must be {self.describes()}")
        return [self.encoder.clean(text).text for text in inputs]

    def prepare(self, batch: Batch, key: Any) -> Batch:
        """Change the batch inside the jitted program."""
        return batch

    @abc.abstractmethod
    def decode(self, summary: Summary, encoded: Encoded, options: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the result of each input."""

    def _one(self, value: Any, options: Mapping[str, Any]) -> Any:
        encoded = self.encode([value], options)
        return next(self.decode(self.forward(encoded.examples), encoded, options))

    def _results(self, inputs: Iterable[Any], options: Mapping[str, Any]) -> Iterator[Any]:
        for encoded in prefetch(_chunks(inputs, self.chunk), lambda some: self.encode(some, options), 1):
            yield from self.decode(self.forward(encoded.examples), encoded, options)

    def merged(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a call with those of the pipeline.

        Raises:
          UserError: for an option that the task does not have, or a value that it cannot have.
        """
        for name in options:
            if name not in self.accepts:
                own = f"its options are {', '.join(sorted(self.accepts))}" if self.accepts else "it has none"
                raise UserError(f"the {self.task} pipeline has no option {name}; {own}")
        merged = {**self.options, **options}
        self.check_options(merged)
        return merged

    def check_options(self, options: Mapping[str, Any]) -> None:  # noqa: B027 - some tasks have none
        """Raise a UserError for values that options of the task cannot have, alone or together."""


def check_count(options: Mapping[str, Any], name: str, least: int = 1, *, none: bool = False) -> None:
    """Raise a UserError if an option is given and is not a whole number of at least `least`, or with `none` None."""
    value = options.get(name, least)
    if (value is None and none) or (isinstance(value, int) and not isinstance(value, bool) and value >= least):
        return
    raise UserError(f"{name} is {value!r:.100}: must be a whole number of at least {least}{', or null' if none else ''}")


def check_choice(options: Mapping[str, Any], name: str, choices: Iterable[str]) -> None:
    """Raise a UserError if an option is given and is neither None nor one of the choices."""
    value, choices = options.get(name), list(choices)
    if value is not None and value not in choices:
        raise UserError(f"{name} is {value!r:.100}: must be one of {', '.join(choices)}")


def check_flags(options: Mapping[str, Any], *names: str) -> None:
    """Raise a UserError if one of the options is given and is neither None nor true or false."""
    for name in names:
        if not isinstance(value := options.get(name), bool | None):
            raise UserError(f"{name} is {value!r:.100}: must be true or false")


def _chunks(inputs: Iterable[Any], most: int) -> Iterator[list[Any]]:
    rest, size = iter(inputs), FIRST
    while chunk := list(itertools.islice(rest, size)):
        yield chunk
        size = most
