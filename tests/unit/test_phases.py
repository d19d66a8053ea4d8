"""Phases: every moment of a run is in one of them."""

from concurrent.futures import ThreadPoolExecutor

from jaxft.core import phases
from jaxft.core.phases import COMPILING, EVALUATING, PREPARING, TRAINING, Clock


def test_a_phase_inside_another_is_no_part_of_it():
    now, heard = [0.0], []
    clock = Clock(lambda: now[0])
    clock.listener = lambda *phase: heard.append(phase)
    now[0] = 1
    with clock.during(TRAINING):
        now[0] = 3
        with clock.during(EVALUATING):
            now[0] = 4
            with clock.during(COMPILING, "2 of 3"):
                now[0] = 9
            now[0] = 11
        now[0] = 14
        assert clock.seconds(TRAINING) == 5  # until now
    now[0] = 20
    found = {name: x for name, x in clock.all_seconds().items() if x}
    assert found == {PREPARING: 7, TRAINING: 5, EVALUATING: 3, COMPILING: 5}
    assert sum(found.values()) == 20
    assert heard[:3] == [(TRAINING, ""), (EVALUATING, ""), (COMPILING, "2 of 3")]
    assert heard[3:] == [(EVALUATING, ""), (TRAINING, ""), (PREPARING, "")]


def test_a_phase_ends_with_an_error():
    now = [0.0]
    clock = Clock(lambda: now[0])
    try:
        with clock.during(TRAINING):
            now[0] = 2
            raise ValueError
    except ValueError:
        now[0] = 3
    assert (clock.seconds(TRAINING), clock.seconds(PREPARING)) == (2, 1)


def test_only_the_thread_of_the_run_is_measured():
    heard = []
    with phases.measured(Clock()) as clock:
        clock.listener = lambda *phase: heard.append(phase)
        assert phases.clock() is clock

        def elsewhere() -> None:
            with phases.phase(COMPILING):
                pass

        with ThreadPoolExecutor(1) as pool:
            pool.submit(elsewhere).result()
        assert heard == []
        elsewhere()
        assert heard == [(COMPILING, ""), (PREPARING, "")]
    elsewhere()
    assert len(heard) == 2
    assert phases.clock() is not clock
