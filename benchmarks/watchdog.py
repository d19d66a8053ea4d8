"""What the watchdog and the report of slow processes cost a step of 10 ms: processor time, in one of several processes.

    python -m benchmarks.watchdog [--rounds 20]

Two processes of this machine make a cluster. The other ones are only their words on the board: as many as there would be,
each as long as in a run. "looks" is the processor time of both threads of the watchdog in one look, divided by the steps
of 10 ms between two looks (one second, more with more than 32 processes); "step" is what the loop does for them in each
step, with a logged step every 10. The sum is compared with 10 ms.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks import record
from benchmarks.command import make_parser

STEP = 0.01  # seconds
COUNTS = (2, 8, 32, 256)  # processes
LOG_EVERY = 10
CALLS = 50

SECOND = "import sys, jax; jax.distributed.initialize(sys.argv[1], 2, 1); jax.devices(); sys.stdin.read()"


def per_call(function: Callable[[], object], calls: int) -> float:
    """Seconds of this thread's processor time."""
    begin = time.thread_time()
    for _ in range(calls):
        function()
    return (time.thread_time() - begin) / calls


def measure(count: int) -> Callable[[], dict[str, float]]:
    """A function that measures once with so many processes."""
    from jax._src import distributed as service

    from jaxft.core import cluster, watchdog
    from jaxft.core.pulse import PULSE
    from jaxft.training.stragglers import Stragglers

    board = cluster.ServiceBoard()
    dog = watchdog.Watchdog(0, count, board, stall=1800.0, silent=100.0)
    dog.exchange()
    (own,) = (text for number, text in board.read().items() if number == 0)
    for number in range(1, count):
        service.global_state.client.key_value_set(f"{cluster.BOARD}/{number}", own, allow_overwrite=True)
    dog.exchange()
    stragglers = Stragglers(print)

    def once() -> dict[str, float]:
        looks = per_call(dog.exchange, CALLS) + per_call(dog.judge, CALLS)
        steps = max(1.0, count / watchdog.MOST_AT_ONCE) * watchdog.OFTEN / STEP
        PULSE.others = {}
        dog.exchange()
        step = per_call(lambda: PULSE.beat(step=3), 1000)
        step += per_call(lambda: stragglers.compare(0.001, STEP), 100) / LOG_EVERY
        return {"looks": looks / steps, "step": step, "share": (looks / steps + step) / STEP}

    return once


def main(argv: Sequence[str]) -> None:
    """Measure, and write the row."""
    args = make_parser(__doc__, "watchdog.json", rounds=20).parse_args(argv)
    import jax

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    other = subprocess.Popen([sys.executable, "-c", SECOND, address], stdin=subprocess.PIPE, env=environment)
    jax.config.update("jax_platforms", "cpu")
    jax.distributed.initialize(address, 2, 0)
    rows = {}
    for count in COUNTS:  # fewer first: what is on the board stays there
        once = measure(count)
        found = [once() for _ in range(args.rounds)]
        rows[str(count)] = {name: record.spread(x[name] for x in found) for name in found[0]}
        print(count, rows[str(count)], flush=True)
    record.add(args.output, {"what": "watchdog", "rows": rows}, "what", "processor")
    assert other.stdin
    other.stdin.close()
    jax.distributed.shutdown()
    other.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
