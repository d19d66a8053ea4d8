"""Processes on this machine that act as the hosts of a cluster."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support import ROOT


def start_processes(
    config: Path, count: int, *, of: int | None = None, each: Sequence[Sequence[str]] = (), folders: Sequence[Path] = ()
) -> list[subprocess.Popen[str]]:
    """Start the first `count` processes of a cluster that train by one config file; what they write to stderr is piped.

    Args:
      config: the file.
      count: how many are started.
      of: how many the cluster has; `count` by default.
      each: more arguments of each process.
      folders: the working directory of each.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    # A new process would ignore the signals that this one ignores (SIGHUP under nohup, SIGINT in the background).
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGINT)}
    started = []
    for number in range(count):
        cluster = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(of or count), "JAX_PROCESS_ID": str(number)}
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "jaxft.train", str(config), *(each[number] if each else ())],
                env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)} | cluster,
                stderr=subprocess.PIPE,
                text=True,
                cwd=folders[number] if folders else config.parent,
            )
        )
    for number, handler in before.items():
        signal.signal(number, handler)
    return started


def end_processes(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Kill what still runs, and close the pipes."""
    for process in processes:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()
