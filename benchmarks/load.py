"""A client that loads a server with little work of its own: prepared requests over connections that are kept."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Found:
    """What came back: the seconds of each request that was answered with 200, and the other statuses."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def request(path: str, body: bytes) -> bytes:
    """A POST of JSON."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Client:
    """Connections to a server, each of which has one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, sent: bytes, found: Found, since: float | None = None) -> None:
        """Send a request and wait for its answer; the seconds count from `since`, when it was due."""
        begin = time.perf_counter() if since is None else since
        try:
            reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
            writer.write(sent)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r")[0]))
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            found.failures.append(repr(error))
            return
        if (status := head.split(" ", 2)[1]) == "200":
            found.seconds.append(time.perf_counter() - begin)
        else:
            found.failures.append(status)
        self._idle.append((reader, writer))


async def closed(client: Client, requests: Sequence[bytes], workers: int, seconds: float) -> Found:
    """Workers that each send the next request as soon as the last is answered."""
    found, end, numbers = Found(), time.perf_counter() + seconds, iter(range(10**9))

    async def work() -> None:
        while time.perf_counter() < end:
            await client.ask(requests[next(numbers) % len(requests)], found)

    await asyncio.gather(*(work() for _ in range(workers)))
    return found


async def opened(client: Client, requests: Sequence[bytes], rate: float, seconds: float) -> Found:
    """Requests that come at random moments, so many per second on average, whether or not others are answered."""
    found, rng, tasks = Found(), random.Random(0), []
    due, end = time.perf_counter(), time.perf_counter() + seconds
    while (due := due + rng.expovariate(rate)) < end:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.ensure_future(client.ask(requests[len(tasks) % len(requests)], found, due)))
    await asyncio.gather(*tasks)
    return found
