"""`jaxft serve` under load: what it answers per second, against `jaxft.pipeline` on the same texts, and how soon.

    python -m benchmarks.serving RUN_OR_MODEL_DIR [--seconds 120]

Texts are banking77's test questions, one per request. Capacity is that of 256 clients that each wait for their answers; in
turn with it, a pipeline in a process of its own predicts the same texts, while the server has nothing to do. Then requests
come at random moments, at 0.8 of the capacity, for so many seconds: the latency counts from the moment at which a request
was due. The client runs on the same cores and takes a part of them.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.command import make_parser
from benchmarks.load import Client, closed, opened, request
from benchmarks.tables import read_table

CLIENTS, PART, QUARTERS = 256, 0.8, 4
ROUND = 10.0  # seconds
PREDICT = """
import sys, time, jaxft, json
texts = json.loads(sys.stdin.readline())
model = jaxft.pipeline(sys.argv[1]).warm_up()
model(texts[:256])
print("ready", flush=True)
for line in sys.stdin:
    begin = time.perf_counter()
    model(texts)
    print(len(texts) / (time.perf_counter() - begin), flush=True)
"""


def resident(pid: int) -> float:
    """MB of memory."""
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next(int(x.split()[1]) / 1000 for x in lines if x.startswith("VmRSS"))


def started(model: str) -> tuple[subprocess.Popen[str], str, int]:
    """(a server, its host, its port)."""
    argv = [
        sys.executable,
        "-m",
        "jaxft.serve",
        model,
        "--port",
        "0",
        "--log",
        "none",
        "--truncate",
        "--max_requests",
        "2000",
    ]
    server = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    assert server.stderr
    line = next(x for x in server.stderr if x.startswith("ready at "))
    host, port = line.split()[2].removeprefix("http://").split(":")
    return server, host, int(port)


def main(argv: Sequence[str]) -> None:
    """Measure, and write the row."""
    parser = make_parser(__doc__, "serving.json", rounds=5)
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=120.0)
    args = parser.parse_args(argv)
    texts = [row["text"] for row in read_table("configs/data/banking77/test.csv")]
    requests = [request("/predict", json.dumps({"inputs": x}).encode()) for x in texts]
    server, host, port = started(args.model)
    pipe: Any = subprocess.PIPE
    predictor = subprocess.Popen([sys.executable, "-c", PREDICT, args.model], stdin=pipe, stdout=pipe, text=True)
    try:
        assert predictor.stdin
        assert predictor.stdout
        predictor.stdin.write(json.dumps(texts) + "\n")
        predictor.stdin.flush()
        assert predictor.stdout.readline() == "ready\n"

        async def capacity() -> float:
            found = await closed(Client(host, port), requests, CLIENTS, ROUND)
            assert not found.failures, found.failures[:3]
            return len(found.seconds) / ROUND

        rates: dict[str, list[float]] = {"pipeline": [], "server": []}
        for _ in range(args.rounds):
            predictor.stdin.write("again\n")
            predictor.stdin.flush()
            rates["pipeline"].append(float(predictor.stdout.readline()))
            rates["server"].append(asyncio.run(capacity()))
            print({name: x[-1] for name, x in rates.items()}, flush=True)
        predictor.stdin.close()
        predictor.wait()
        rate = PART * float(np.median(rates["server"]))
        memory, seconds, failures = [resident(server.pid)], [], []
        begin = time.perf_counter()
        for _ in range(QUARTERS):
            found = asyncio.run(opened(Client(host, port), requests, rate, args.seconds / QUARTERS))
            seconds += found.seconds
            failures += found.failures
            memory.append(resident(server.pid))
        took = time.perf_counter() - begin
        quantiles = np.percentile(seconds, [50, 95, 99])
        rows = {
            "pipeline": record.spread(rates["pipeline"]),
            "server": record.spread(rates["server"]),
            "ratio": record.ratios(rates["server"], rates["pipeline"]),
            "asked": rate,
            "requests": len(seconds),
            "answered": len(seconds) / took,
            "failures": len(failures),
            "milliseconds": {f"p{x}": round(1000 * float(y), 1) for x, y in zip((50, 95, 99), quantiles, strict=True)},
            "megabytes": memory,
        }
    finally:
        predictor.kill()
        server.send_signal(signal.SIGTERM)
        server.wait()
    print(rows)
    record.add(args.output, {"what": "serving", "cores": os.cpu_count(), "rows": rows}, "what", "processor")


if __name__ == "__main__":
    main(sys.argv[1:])
