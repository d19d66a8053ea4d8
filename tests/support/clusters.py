"""Processes on this machine that act as the hosts of a cluster."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support import ROOT


def start_processes(
    folder: Path,
    *argv: str,
    count: int = 2,
    started: int | None = None,
    devices: int = 1,
    folders: Sequence[Path] | None = None,
    each: Sequence[Sequence[str]] | None = None,
    variables: Sequence[Mapping[str, str]] | None = None,
) -> list[subprocess.Popen[str]]:
    """Start processes of a cluster, whose output is piped.

    Args:
      folder: where they work, unless `folders` says it of each.
      argv: the arguments of Python; `each` has further ones of each process.
      count: processes of the cluster, of which the first `started` are started.
      devices: of each.
      variables: of the environment of each.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    # A new process would ignore the signals that this one ignores (SIGHUP under nohup, SIGINT in the background).
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGINT)}
    common = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(devices)}
    common |= {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count)} if count > 1 else {}
    hosts = []
    for number in range(count if started is None else started):
        own = {"JAX_PROCESS_ID": str(number), **(variables[number] if variables else {})}
        hosts.append(
            subprocess.Popen(
                [sys.executable, *argv, *(each[number] if each else ())],
                env=common | own,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=folders[number] if folders else folder,
            )
        )
    for number, handler in before.items():
        signal.signal(number, handler)
    return hosts


def end_processes(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Kill what still runs, and close the pipes."""
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()
