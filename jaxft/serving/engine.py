"""Runs the requests that wait in batches, as many together as a budget of tokens allows."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from jaxft.data.batching.collect import Summary
from jaxft.pipelines.base import Encoded, Pipeline
from jaxft.serving import joined
from jaxft.serving.meter import Meter


@dataclass
class Job:
    """The inputs of a request, which wait for their results.

    Attributes:
      pipeline: what runs them.
      encoded: the tokenised inputs.
      options: of the call.
      future: the list of the results; a job whose future is cancelled is dropped.
      since: when it began to wait, of `time.perf_counter`.
    """

    pipeline: Pipeline
    encoded: Encoded
    options: Mapping[str, Any]
    future: Future[list[Any]] = field(default_factory=Future)
    since: float = field(default_factory=time.perf_counter)

    @property
    def tokens(self) -> int:
        """Of all its examples."""
        return int(self.encoded.examples.offsets[-1])


class Engine:
    """A thread that runs jobs, the oldest first, together with others for the same pipeline.

    It never waits for more jobs: while a batch runs, the next ones gather. Results are decoded in a second thread while the
    device works on the next batch.

    Args of the constructor:
      batch_tokens: of the jobs that run together; one job alone may have more.
      meter: counts what it does.
    """

    def __init__(self, batch_tokens: int, meter: Meter) -> None:
        self._most, self._meter = batch_tokens, meter
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._decoding = ThreadPoolExecutor(1, "decode")
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Future[list[Any]]:
        """Let a job wait; returns its future."""
        with self._changed:
            if self._closed:
                raise RuntimeError("the engine is closed")
            self._jobs.append(job)
            self._meter.queue.set(len(self._jobs))
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Run what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._decoding.shutdown()

    def _work(self) -> None:
        while jobs := self._next():
            self._run(jobs)

    def _next(self) -> list[Job]:
        """The jobs of the next batch; none after the last."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if not self._jobs:
                    return []
                chosen, left = _choose(self._jobs, self._most)
                self._jobs = left
                self._meter.queue.set(len(left))
            if alive := [job for job in chosen if job.future.set_running_or_notify_cancel()]:
                return alive

    def _run(self, jobs: Sequence[Job]) -> None:
        begin = time.perf_counter()
        for job in jobs:
            self._meter.waiting.observe(begin - job.since)
        self._meter.batch_size.observe(len(jobs))
        self._meter.batch_tokens.observe(sum(job.tokens for job in jobs))
        parts = [job.encoded.examples for job in jobs]
        try:
            summaries = joined.split(jobs[0].pipeline.forward(joined.join(parts)), parts)
        except Exception as error:  # noqa: BLE001 - the requests fail, and the server goes on
            for job in jobs:
                job.future.set_exception(error)
            return
        self._meter.inference.observe(time.perf_counter() - begin)
        for job, summary in zip(jobs, summaries, strict=True):
            self._decoding.submit(_settle, job.future, lambda job=job, summary=summary: decoded(job, summary))


def decoded(job: Job, summary: Summary) -> list[Any]:
    """The results of a job's inputs."""
    return list(job.pipeline.decode(summary, job.encoded, job.options))


def _choose(jobs: deque[Job], most: int) -> tuple[list[Job], deque[Job]]:
    """(the oldest job and the next ones of its pipeline that fit into `most` tokens, the jobs that are left)."""
    chosen, left, tokens = [], deque[Job](), 0
    full = False
    for job in jobs:
        if job.pipeline is not jobs[0].pipeline or full or job.future.cancelled():
            if not job.future.cancelled():
                left.append(job)
            continue
        full = bool(chosen) and tokens + job.tokens > most
        if full:
            left.append(job)
            continue
        chosen.append(job)
        tokens += job.tokens
    return chosen, left


def _settle(future: Future[list[Any]], make: Callable[[], list[Any]]) -> None:
    try:
        future.set_result(make())
    except Exception as error:  # noqa: BLE001 - it belongs to the request
        future.set_exception(error)
