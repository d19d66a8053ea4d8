"""What all routes use: the models, the engine, and how a request's inputs become results."""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from jaxft.core.errors import UserError
from jaxft.core.host_memory import release_freed_memory
from jaxft.pipelines.base import Encoded, Pipeline
from jaxft.serving.engine import Engine, Job
from jaxft.serving.limits import Limits
from jaxft.serving.meter import Meter
from jaxft.serving.refusals import ClientLeft, Refused

RETRY = {"retry-after": "1"}


class Service:
    """Models that answer requests.

    Args of the constructor:
      models: the pipeline of each, by name; the first is the default.
      limits: what is accepted.

    Attributes:
      ready: whether all programs are compiled.
    """

    def __init__(self, models: Mapping[str, Pipeline], limits: Limits) -> None:
        self.models, self.limits, self.meter = models, limits, Meter()
        self.engine = Engine(limits.batch_tokens, self.meter)
        self.ready = False
        self._requests, self._of_clients = 0, Counter[str]()
        self._untruncated = {name: Untruncated(x) for name, x in models.items()}

    def warm_up(self) -> None:
        """Compile every program that a request may need."""
        for each in self.models.values():
            each.warm_up()
        gc.collect()
        release_freed_memory()  # of opening and compiling
        self.ready = True

    def name_of(self, given: str | None) -> str:
        """The name of a model, or of the default.

        Raises:
          Refused: if there is none of this name.
        """
        if given is None:
            return next(iter(self.models))
        if given not in self.models:
            raise Refused("NotFound", f"there is no model {given:.100}: the models are {', '.join(self.models)}")
        return given

    @contextmanager
    def accepted(self, client: str) -> Iterator[None]:
        """A request that is being answered.

        Raises:
          Refused: if the server, or this client, has as many already as it may have.
        """
        if not self.ready:
            raise Refused("Unhealthy", "the models are being compiled: try again in a moment", RETRY)
        if self._requests >= self.limits.requests:
            raise Refused("Overloaded", f"{self._requests} requests are being answered already: try again later", RETRY)
        most = self.limits.client_requests
        if most is not None and self._of_clients[client] >= most:
            raise Refused(
                "Overloaded", f"{most} requests of {client} are being answered already: wait for one of them", RETRY
            )
        self._requests += 1
        self._of_clients[client] += 1
        try:
            yield
        finally:
            self._requests -= 1
            self._of_clients[client] -= 1
            if not self._of_clients[client]:
                del self._of_clients[client]

    def check_count(self, inputs: Sequence[Any]) -> None:
        """Raise a Refused for more inputs than a request may have."""
        if len(inputs) > self.limits.texts:
            raise Refused("TooLarge", f"there are {len(inputs)} inputs: must be at most {self.limits.texts} in a request")

    async def results(
        self,
        name: str,
        inputs: Sequence[Any],
        options: Mapping[str, Any],
        *,
        truncate: bool | None,
        left: Callable[[], Awaitable[None]],
        note: dict[str, Any],
    ) -> list[Any]:
        """The result of each input.

        Args:
          name: of the model.
          inputs, options: of its pipeline.
          truncate: whether texts that are too long are cut; None leaves it to the server.
          left: returns once the client has left.
          note: takes what the log says of the request: texts, tokens, truncated.

        Raises:
          Refused: for too many inputs, or one that is wrong or too long.
          ClientLeft: if the client has left before the results were there.
        """
        pipeline, limits = self.models[name], self.limits
        if not inputs:
            raise Refused("Empty", "the inputs are empty: must be at least one")
        self.check_count(inputs)
        begin = time.perf_counter()
        try:
            options = pipeline.merged(options)
            encoded = await asyncio.to_thread(pipeline.encode, inputs, options)
            cut = await asyncio.to_thread(self._untruncated[name].cut, inputs, encoded, options)
        except UserError as error:
            raise Refused("Validation", str(error)) from None
        self.meter.tokenization.observe(time.perf_counter() - begin)
        if cut and not (limits.truncate if truncate is None else truncate):
            number, tokens = cut[0]
            raise Refused(
                "TooLarge",
                f"input {number} has {tokens} tokens: must have at most {pipeline.longest}, or truncate must be true",
            )
        note |= {"model": name, "texts": len(inputs), "tokens": int(encoded.examples.offsets[-1]), "truncated": len(cut)}
        found = await self._run(Job(pipeline, encoded, options), left)
        for meter, value in ((self.meter.texts, len(inputs)), (self.meter.tokens, note["tokens"])):
            meter.labels(name).inc(value)
        self.meter.truncated.labels(name).inc(len(cut))
        return found

    async def _run(self, job: Job, left: Callable[[], Awaitable[None]]) -> list[Any]:
        future = self.engine.submit(job)
        waiting = asyncio.wrap_future(future)
        leaving = asyncio.ensure_future(left())
        try:
            await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise ClientLeft
            return waiting.result()
        except UserError as error:
            raise Refused("Validation", str(error)) from None
        finally:
            future.cancel()  # nothing if it has ended or runs
            waiting.cancel()
            leaving.cancel()
            with suppress(asyncio.CancelledError):
                await leaving


class Untruncated:
    """Finds the inputs of a pipeline that were cut: its tokenizer, without a limit."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._free: Any = None
        if getattr(pipeline.model.tokenizer, "is_fast", False):
            from tokenizers import Tokenizer

            self._free = Tokenizer.from_str(pipeline.model.tokenizer.backend_tokenizer.to_str())
            self._free.no_truncation()
            self._free.no_padding()

    def cut(self, inputs: Sequence[Any], encoded: Encoded, options: Mapping[str, Any]) -> list[tuple[int, int]]:
        """(number from 0, tokens) of each input of which tokens are missing.

        Contexts of questions, and texts with a stride, are divided into windows, so they are never cut.
        """
        encoder, examples = self._pipeline.encoder, encoded.examples
        if self._pipeline.task == "question-answering" or options.get("stride") is not None:
            return []
        if not np.any(np.diff(examples.offsets) >= encoder.max_length):
            return []
        found = []
        for number, value in enumerate(inputs):
            most = max(map(self._count, _texts_of(value)))
            if most > encoder.max_length:
                found.append((number, most))
        return found

    def _count(self, text: tuple[str, ...] | list[str]) -> int:
        if isinstance(text, list):
            return len(self._pipeline.model.tokenizer(text, is_split_into_words=True, truncation=False)["input_ids"])
        own = [self._pipeline.encoder.clean(x).text for x in text]
        if self._free is None:
            return len(self._pipeline.model.tokenizer(*own, truncation=False)["input_ids"])
        return len(self._free.encode(*own).ids)


def _texts_of(value: Any) -> list[Any]:
    """The texts, pairs of texts, or lists of words that an input is tokenised as."""
    if isinstance(value, str):
        return [(value,)]
    if isinstance(value, Mapping) and "choices" in value:
        return [(value["text"], choice) for choice in value["choices"]]
    if isinstance(value, Mapping):
        return [(value["text"], value["text_pair"]) if value.get("text_pair") is not None else (value["text"],)]
    return [list(value)]
