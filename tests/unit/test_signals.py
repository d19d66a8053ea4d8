"""Signals that are remembered."""

import contextlib
import ctypes
import signal
from concurrent.futures import Future

import pytest

from jaxft.core import signals
from jaxft.core.signals import Interrupted, Stopped, Watch
from jaxft.data.batching.batch_sampler import Shape
from jaxft.step import compilation
from jaxft.step.compilation import Compiled


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_step_whose_exception_is_swallowed_stops_the_run_after_it(number):
    with Watch() as watch:
        with contextlib.suppress(KeyboardInterrupt, Stopped):
            signal.raise_signal(number)
        watch.arm()
        assert watch.heard() == number


def test_of_several_processes_the_service_hears_sigterm_from_the_first_step_on(monkeypatch):
    """Before, the process that gets it stops at once; what stands for the service is a handler that Python does not know."""
    heard = []
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(heard.append)
    libc, before = ctypes.CDLL(None), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(signals.distributed, "process_count", lambda: 2)
    libc.signal(signal.SIGTERM, handler)
    try:
        with Watch() as watch:
            with pytest.raises(Stopped) as stopped:
                signal.raise_signal(signal.SIGTERM)
            assert stopped.value.alone
            watch.arm()
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        with Watch():
            pass
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM] * 3
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("armed", "raised"), [(False, Stopped), (True, Interrupted)])
def test_a_check_ends_what_goes_on_between_steps(armed, raised):
    with Watch() as watch:
        if armed:
            watch.arm()
        watch.check()
        with contextlib.suppress(Stopped):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(raised):
            watch.check()


def test_waiting_for_a_program_that_is_being_compiled_ends(monkeypatch):
    program: Future = Future()

    def check():
        raise Interrupted(15)

    monkeypatch.setattr(compilation, "OFTEN", 0.01)
    programs = Compiled({Shape(1, 8, 1): program})
    with pytest.raises(Interrupted):
        programs.ready(Shape(1, 8, 1), check)
    program.set_result("ready")
    assert programs.ready(Shape(1, 8, 1), check) == "ready"
