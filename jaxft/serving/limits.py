"""What a server accepts at most."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of a server; a request beyond them is refused with 408, 413 or 429.

    Attributes:
      body_bytes: of the body of a request.
      body_seconds: until a body has come.
      texts: inputs of one request.
      batch_tokens: of the inputs that run together.
      requests: that are accepted and not answered yet.
      client_requests: the same, of one address; None for no limit of its own.
      truncate: whether texts that are too long are cut unless the request says otherwise; else they are refused.
    """

    body_bytes: int = 2_000_000
    body_seconds: float = 30.0
    texts: int = 128
    batch_tokens: int = 16_384
    requests: int = 512
    client_requests: int | None = None
    truncate: bool = False
