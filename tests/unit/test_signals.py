"""Signals that are remembered."""

import contextlib
import signal
from concurrent.futures import Future

import pytest

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
