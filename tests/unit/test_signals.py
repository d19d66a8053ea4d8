"""Signals that are remembered."""

import contextlib
import signal

import pytest

from jaxft.core.signals import Stopped, Watch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_step_whose_exception_is_swallowed_stops_the_run_after_it(number):
    with Watch() as watch:
        with contextlib.suppress(KeyboardInterrupt, Stopped):
            signal.raise_signal(number)
        watch.arm()
        assert watch.after(1) == number
