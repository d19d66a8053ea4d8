"""A process that ends while a thread is at work that cannot be interrupted."""

import subprocess
import sys
import time

import pytest

from jaxft.core.uninterruptible import leave, uninterruptible

PROGRAM = """
import atexit, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from jaxft.core.uninterruptible import leave, uninterruptible

def work(begun):
    with uninterruptible():
        begun.set()
        time.sleep(float(sys.argv[1]))

begun = threading.Event()
ThreadPoolExecutor(1).submit(work, begun)
begun.wait()
atexit.register(print, "last words")
leave(143)
"""


def test_a_process_leaves_without_waiting_for_it():
    begin = time.monotonic()
    found = subprocess.run([sys.executable, "-c", PROGRAM, "60"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (143, "last words\n"), found.stderr
    assert time.monotonic() - begin < 30


def test_otherwise_it_ends_as_usual():
    with pytest.raises(SystemExit) as end:
        leave(143)
    assert end.value.code == 143


def test_no_command_ends_the_process_of_the_tests():
    with uninterruptible(), pytest.raises(SystemExit):
        leave(143)
