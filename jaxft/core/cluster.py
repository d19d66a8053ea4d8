"""Joining the other processes of a run, through jax.distributed, and a board on which all read what each has written."""

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jaxft.core.errors import RESTART, UserError, one_line

LATER = 60  # seconds by which JAX gives up later than jaxft, which names the process that is lost; JAX prints a trace
EVERY = 10.0  # seconds between lines while a process waits for the others
ADDRESS, COUNT, NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
BOARD = "jaxft/pulse"


def cluster_announced() -> bool:
    """Whether the environment announces other processes to join."""
    hosts = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")  # a single TPU VM announces only itself
    tasks = int(os.environ.get("SLURM_NTASKS", "1") or 1)
    return bool(os.environ.get(ADDRESS) or hosts or tasks > 1)


def join_cluster(*, start_timeout: int = 300, heartbeat_timeout: int = 100) -> None:
    """Start jax.distributed, with the coordinator at JAX_COORDINATOR_ADDRESS if that is set.

    Args:
      start_timeout: seconds to wait for the other processes.
      heartbeat_timeout: seconds without a sign of life after which a process counts as dead.

    If they do not come, the process ends with the code RESTART.

    Raises:
      UserError: for variables that do not fit together.
    """
    import jax

    explicit = _explicit()
    try:
        with _telling(explicit, start_timeout):
            jax.distributed.initialize(
                **explicit,
                initialization_timeout=start_timeout + LATER,
                heartbeat_timeout_seconds=heartbeat_timeout + LATER,
            )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"jax.distributed could not start: {one_line(error)}; use --runtime.distributed off for one machine"
        ) from error


def _explicit() -> dict[str, Any]:
    """What the variables of JAX say of the cluster; nothing if a scheduler announces it.

    Raises:
      UserError: for a number that is none or out of range, or an address that is taken on this host.
    """
    address = os.environ.get(ADDRESS)
    if not address:
        return {}
    if not address.rpartition(":")[2].isdigit() or ":" not in address:
        raise UserError(f"{ADDRESS} is {address}: must be HOST:PORT of process 0")
    if COUNT not in os.environ:
        return {"coordinator_address": address}
    count, number = _number(COUNT), _number(NUMBER)
    if not 0 <= number < count:
        raise UserError(f"{NUMBER} is {number}: must be 0 to {count - 1}, as {COUNT} is {count}")
    if number == 0:
        _check_free(int(address.rpartition(":")[2]))
    return {"coordinator_address": address, "num_processes": count, "process_id": number}


def _number(name: str) -> int:
    text = os.environ.get(name, "0")
    if not text.strip().isdigit():
        raise UserError(f"{name} is {text!r}: must be a whole number, 0 or more")
    return int(text)


def _check_free(port: int) -> None:
    """Refuse a port on which another process of this host listens: JAX would end this one with a trace."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("", port))
        except OSError as error:
            raise UserError(
                f"port {port} of {ADDRESS} cannot be used on this host ({error.strerror}): another run uses it, or two "
                f"processes have {NUMBER} 0"
            ) from error


@contextmanager
def _telling(explicit: Mapping[str, Any], timeout: int) -> Iterator[None]:
    """Say every 10 s for whom this process waits, and leave after the timeout with the code on which it is started again."""
    done, number = threading.Event(), explicit.get("process_id")
    others = "the other processes"
    if number == 0:
        others = f"processes 1 to {explicit['num_processes'] - 1} to join at {explicit['coordinator_address']}"
    elif number is not None:
        others = f"process 0 at {explicit['coordinator_address']}, or for others of {explicit['num_processes']} processes"
    who = f"process {number}" if number is not None else "this process"

    def tell() -> None:
        begin = time.monotonic()
        while not done.wait(min(EVERY, timeout)):
            seconds = time.monotonic() - begin
            about = f"{who} on {socket.gethostname()} waits for {others}: {seconds:.0f} s so far"
            if seconds < timeout:
                print(f"{about}, gives up after {timeout} s (runtime.start_timeout)", file=sys.stderr, flush=True)
            else:
                print(f"error: {about}; use --runtime.distributed off for one machine", file=sys.stderr, flush=True)
                os._exit(RESTART)

    thread = threading.Thread(target=tell, name="waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class ServiceBoard:
    """What each process has written last, at the service of process 0, under the name of the board.

    Its store of keys has no public name in JAX; orbax and `jax.experimental.multihost_utils` use it in the same way.

    Attributes:
      lost: what JAX raises if the connection to another process is lost.
    """

    def __init__(self, name: str = BOARD) -> None:
        import jax
        from jax._src import distributed as service

        self._name, self._number, self._client = name, jax.process_index(), service.global_state.client
        self.lost: type[Exception] = jax.errors.JaxRuntimeError

    def write(self, text: str) -> None:
        """Replace what this process has written."""
        self._call("key_value_set", f"{self._name}/{self._number}", text, allow_overwrite=True)

    def read(self) -> dict[int, str]:
        """What each process has written, by its number."""
        return {int(key.rpartition("/")[2]): text for key, text in self._call("key_value_dir_get", f"{self._name}/")}

    def _call(self, name: str, *args: str, **options: Any) -> Any:
        if self._client is None:
            raise ConnectionError("jax.distributed has ended")
        try:
            return getattr(self._client, name)(*args, **options)
        except self.lost as error:
            raise ConnectionError(one_line(error)) from error
