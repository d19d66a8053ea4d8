"""`jaxft serve` as a process: idle and slow clients, requests at random, and the end by a signal under load."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.support import ROOT, tiny

BODY = json.dumps({"inputs": "the river runs under the bridge"}).encode()


@pytest.fixture
def serve(tmp_path):
    """A function that starts a server of a tiny model, and returns (the process, its address) once it is ready."""
    started, log = [], tmp_path / "log"

    def start(*argv: str) -> tuple[subprocess.Popen, str]:
        model = tiny.write_model(tmp_path / "moods", labels=tiny.LABELS)
        command = [sys.executable, "-m", "jaxft.serve", str(model), "--port", "0", "--max_length", "32", *argv]
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        with open(log, "w") as lines:
            process = subprocess.Popen(command, env=environment, stderr=lines)
        signal.signal(signal.SIGINT, before)
        started.append(process)
        while process.poll() is None:
            if ready := [line for line in log.read_text().splitlines() if line.startswith("ready at ")]:
                return process, ready[0].split()[2]
            time.sleep(0.05)
        raise AssertionError(log.read_text())

    yield start
    for process in started:
        process.kill()
        process.wait()


def ended(process: subprocess.Popen, number: int = signal.SIGTERM) -> int:
    """The exit code after a signal."""
    process.send_signal(number)
    return process.wait(60)


def logged(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines() if line.startswith("{")]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_loses_no_accepted_request(serve, tmp_path, number):
    """A connection that still waits in the system's queue when the server ends is reset; its request was not accepted."""
    process, address = serve("--log", "json")
    answered = []

    async def ask(client: httpx.AsyncClient) -> None:
        """Ask until the server takes no more connections."""
        while True:
            try:
                answer = await client.post(f"{address}/predict", content=BODY)
            except httpx.HTTPError:
                return
            answered.append(answer.status_code)
            assert len(answer.json()) == len(tiny.LABELS)

    async def load() -> None:
        async with httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0), timeout=60) as client:
            tasks = [asyncio.ensure_future(ask(client)) for _ in range(16)]
            while len(answered) < 50:
                await asyncio.sleep(0.01)
            process.send_signal(number)
            await asyncio.gather(*tasks)

    asyncio.run(load())
    assert process.wait(60) == 0, (tmp_path / "log").read_text()
    assert set(answered) == {200}
    assert [row["status"] for row in logged(tmp_path)] == answered


@pytest.mark.slow
def test_idle_and_slow_clients_do_not_stop_the_others(serve):
    process, address = serve("--log", "none", "--body_timeout", "2")
    host, port = address.removeprefix("http://").split(":")

    async def clients() -> None:
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(1000)]
        half = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{"
        for _, writer in opened[:100]:
            writer.write(half)
        for _, writer in opened[100:200]:
            writer.write(half[:30])
        async with httpx.AsyncClient(timeout=20) as client:
            begin = time.monotonic()
            for _ in range(20):
                assert (await client.post(f"{address}/predict", content=BODY)).status_code == 200
            assert time.monotonic() - begin < 10
        reader, _ = opened[0]
        assert b" 408 " in await asyncio.wait_for(reader.readline(), 20)
        for _, writer in opened:
            writer.close()

    asyncio.run(clients())
    assert ended(process) == 0


def hostile(rng: random.Random) -> tuple[str, bytes]:
    """(a path, a body) that is wrong in one of many ways."""
    path = rng.choice(
        ["/predict", "/pipeline", "/tokenize", "/embed", "/v1/embeddings", "/v2/models/moods/infer", "/tags", "/"]
    )
    values = [None, 1, -1.5, True, "", "x" * 70, [], {}, ["a", 1], [["a", "b", "c"]], {"text": 1}, [[]], "\0", 10**30]
    names = ["inputs", "input", "model", "parameters", "truncate", "raw_scores", "text", "outputs", "id", "\u2028"]
    body = json.dumps({rng.choice(names): rng.choice(values) for _ in range(rng.randrange(4))}).encode()
    how = rng.randrange(5)
    if how == 0:
        body = body[: rng.randrange(len(body))]
    elif how == 1:
        place = rng.randrange(len(body))
        body = body[:place] + bytes([rng.randrange(256)]) + body[place + 1 :]
    elif how == 2:
        body = rng.randbytes(rng.randrange(200))
    return path, body


@pytest.mark.slow
def test_requests_at_random_are_answered_or_refused(serve, tmp_path):
    process, address = serve("--log", "json")
    rng, codes = random.Random(0), []
    with httpx.Client(timeout=20) as client:
        for _ in range(2000):
            path, body = hostile(rng)
            answer = client.post(address + path, content=body)
            codes.append(answer.status_code)
            if answer.status_code >= 400:
                error = answer.json()["error"]
                assert "\n" not in (error if isinstance(error, str) else error["message"])
        assert client.post(f"{address}/predict", content=BODY).status_code == 200
    assert set(codes) <= {200, 400, 404, 405, 413, 422}
    assert sum(x >= 400 for x in codes) > 1500
    assert ended(process) == 0
    rows = logged(tmp_path)
    assert len(rows) == 2001
    assert {row["status"] for row in rows[:2000]} == set(codes)
