"""The numbers that Prometheus reads, under the names of Text Embeddings Inference."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = tuple(0.001 * 2**i for i in range(15))  # 1 ms to 16 s
SIZES = tuple(2**i for i in range(11))
TOKENS = tuple(16 * 2**i for i in range(11))


class Meter:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        count = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self.requests = count("te_request_count", "requests", ["path"])
        self.answers = count("te_request_success", "requests that were answered", ["path"])
        self.failures = count("te_request_failure", "requests that were refused or failed", ["path", "err"])
        self.texts = count("te_texts", "inputs of requests that were answered", ["model"])
        self.tokens = count("te_tokens", "their tokens", ["model"])
        self.truncated = count("te_truncated_texts", "inputs that were cut", ["model"])
        self.seconds = histogram("te_request_duration", "seconds of a request", ["path"], buckets=SECONDS)
        self.tokenization = histogram("te_request_tokenization_duration", "seconds", buckets=SECONDS)
        self.waiting = histogram("te_request_queue_duration", "seconds", buckets=SECONDS)
        self.inference = histogram("te_request_inference_duration", "seconds", buckets=SECONDS)
        self.batch_size = histogram("te_batch_next_size", "requests of a batch", buckets=SIZES)
        self.batch_tokens = histogram("te_batch_next_tokens", "tokens of a batch", buckets=TOKENS)
        self.queue = gauge("te_queue_size", "requests that wait")

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)
