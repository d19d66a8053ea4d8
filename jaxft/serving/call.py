"""A route, and a request that it answers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxft.models.model import labels_of
from jaxft.pipelines.base import Pipeline
from jaxft.serving.fields import FLAG_OR_NULL, TEXT, Field
from jaxft.serving.refusals import Refused
from jaxft.serving.service import Service

MODEL = Field(TEXT, None, "the name of the model; the first one of the server by default")
TRUNCATE = Field(FLAG_OR_NULL, None, "whether a text that is too long is cut, or refused; null: as the server was started")


@dataclass
class Call:
    """A request for a model, whose body is right.

    Attributes:
      service: of the server.
      model: the name of the model.
      values: of the fields of the route.
      left: returns once the client has left.
      note: what the log says of the request.
    """

    service: Service
    model: str
    values: Mapping[str, Any]
    left: Callable[[], Awaitable[None]]
    note: dict[str, Any] = field(default_factory=dict)

    @property
    def pipeline(self) -> Pipeline:
        """Of the model."""
        return self.service.models[self.model]

    @property
    def labels(self) -> list[str]:
        """Of the model, in the order of its logits."""
        return list(labels_of(self.pipeline.model.model.hf_config))

    async def results(self, inputs: Sequence[Any], **options: Any) -> list[Any]:
        """The result of each input, with options of the pipeline; None leaves an option as it is."""
        given = {name: x for name, x in options.items() if x is not None}
        about = {"truncate": self.values.get("truncate"), "left": self.left, "note": self.note}
        return await self.service.results(self.model, inputs, given, **about)


@dataclass(frozen=True)
class Route:
    """What a server answers at a path.

    Attributes:
      path: which may name a model, as `{model}`.
      about: one line for the description.
      tasks: of the models that it serves; empty for all.
      fields: of the body.
      run: makes the answer.
      example: of a body, for the description.
    """

    path: str
    about: str
    tasks: frozenset[str]
    fields: Mapping[str, Field]
    run: Callable[[Call], Awaitable[Any]]
    example: Mapping[str, Any]

    def check(self, name: str, pipeline: Pipeline, others: Sequence["Route"]) -> None:
        """Raise a Refused if the model is not one that the route serves."""
        if self.tasks and pipeline.task not in self.tasks:
            own = ", ".join(x.path for x in others if not x.tasks or pipeline.task in x.tasks)
            raise Refused("Validation", f"model {name} is for {pipeline.task}, which {self.path} does not serve: use {own}")
