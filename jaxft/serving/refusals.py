"""Answers to requests that are not served: a status, a kind and one line that says what would be right."""

from collections.abc import Mapping

from jaxft.core.errors import one_line, shortened

# Kinds, as Text Embeddings Inference calls them, and the status of each.
STATUS = {
    "Validation": 422,
    "Empty": 400,
    "Malformed": 400,
    "TooLarge": 413,
    "Timeout": 408,
    "NotFound": 404,
    "Method": 405,
    "Unauthorized": 401,
    "Overloaded": 429,
    "Unhealthy": 503,
    "Backend": 500,
}


class Refused(Exception):
    """A request that is not served.

    Args of the constructor, and attributes:
      kind: one of STATUS.
      text: one line for the client.
      headers: of the answer.
    """

    def __init__(self, kind: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.kind, self.text, self.headers = kind, shortened(one_line(text)), dict(headers or {})

    @property
    def status(self) -> int:
        """Of HTTP."""
        return STATUS[self.kind]

    def body(self) -> dict[str, str]:
        """As Text Embeddings Inference answers."""
        return {"error": self.text, "error_type": self.kind}


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""
