"""`jaxft.pipeline` and transformers' pipeline in turn: the first answer, the latency of one text, many texts.

python -m benchmarks.pipelines RUN_OR_MODEL_DIR [--texts 3000] [--rounds 5]

Texts are banking77's test questions. The first answer is that of a new process, with imports and a warm compile cache.
transformers gets its best batch size of several, which depends on the texts and the machine.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks import record
from benchmarks.command import make_parser
from benchmarks.tables import read_table
from jaxft.config import cli

BATCHES = (1, 8, 32, 128)
ONE = "I lost my card and need a new one, how long does it take?"
FIRST = {
    "jaxft": "import jaxft; print(jaxft.pipeline({!r})({!r}))",
    "transformers": "import transformers; print(transformers.pipeline('text-classification', model={!r})({!r}))",
}


def seconds(call: Callable[[], Any]) -> float:
    """The duration of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def first_answer(side: str, model: str) -> float:
    """Seconds from the start of a process to its first answer and its end."""
    return seconds(
        lambda: subprocess.run([sys.executable, "-c", FIRST[side].format(model, ONE)], check=True, capture_output=True)
    )


def main(argv: list[str]) -> None:
    """Measure, and write the rows."""
    import jaxft

    parser = make_parser(__doc__, "pipelines.json", rounds=5)
    parser.add_argument("model")
    parser.add_argument("--texts", type=int, default=3000)
    args = parser.parse_args(argv)
    import transformers

    texts = [row["text"] for row in read_table("configs/data/banking77/test.csv")][: args.texts]
    ours = jaxft.pipeline(args.model).warm_up()
    theirs: Any = transformers.pipeline("text-classification", model=args.model)
    found = [(x["label"], y["label"]) for x, y in zip(ours(texts[:200]), theirs(texts[:200]), strict=True)]
    assert all(one == other for one, other in found)
    by_size = {size: seconds(partial(theirs, texts[:256], batch_size=size)) for size in BATCHES}
    best = min(by_size, key=lambda size: by_size[size])
    parts: dict[str, dict[str, Callable[[], float]]] = {
        "first answer": {side: partial(first_answer, side, args.model) for side in FIRST},
        "one text": {
            "jaxft": lambda: min(seconds(lambda: ours(ONE)) for _ in range(20)),
            "transformers": lambda: min(seconds(lambda: theirs(ONE)) for _ in range(20)),
        },
        f"{len(texts)} texts": {
            "jaxft": lambda: seconds(lambda: ours(texts)),
            "transformers": lambda: seconds(lambda: theirs(texts, batch_size=best)),
        },
    }
    rows = []
    for what, timers in parts.items():
        row = {"what": what, **record.compare(record.in_turn(timers, args.rounds), "transformers")}
        rows.append(row | ({"batch_size": best} if "texts" in what else {}))
        print(json.dumps(rows[-1]), flush=True)
    record.write(args.output, record.machine() | {"rows": rows})


if __name__ == "__main__":
    cli.run_main(main)
