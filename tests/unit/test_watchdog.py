"""The watchdog: what it sees on the board, and when it ends the process."""

import contextlib
import json
import threading
import time

import pytest

from jaxft.core import watchdog
from jaxft.core.errors import RESTART
from jaxft.core.pulse import PULSE
from jaxft.core.signals import Stopped
from jaxft.core.watchdog import Watchdog


class Board:
    """A board on which processes 1 and 2 write what a test says, and 3 is tested."""

    lost = BrokenPipeError

    def __init__(self):
        self.texts, self.down = {}, False

    def write(self, text):
        self.texts[3] = text

    def read(self):
        if self.down:
            raise ConnectionError("UNAVAILABLE: failed to connect")
        return dict(self.texts)

    def other(self, number, **about):
        known = {"host": f"host-{number}", "phase": "training", "step": 7, "idle": 0.0, "look": 1}
        self.texts[number] = json.dumps(known | about)


@pytest.fixture
def now(monkeypatch):
    """A clock that a test moves."""
    time_of = {"now": time.monotonic()}
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: time_of["now"])
    monkeypatch.setattr(PULSE, "others", {})
    PULSE.beat(phase="training", step=8)

    def move(seconds):
        time_of["now"] += seconds

    return move


def dog(board, number=3, **options):
    return Watchdog(number, 4, board, **{"stall": 60.0, "silent": 20.0} | options)


def test_a_run_that_moves_is_left_alone(now, monkeypatch):
    board, seen = Board(), None
    own = dog(board)
    monkeypatch.setattr(PULSE, "own_seconds", 0.25)
    for look in range(200):
        now(1.0)
        PULSE.beat(step=look)
        board.other(1, look=look)
        board.other(2, look=look)
        own.exchange()
        seen = own.verdict()
        assert seen is None
    assert {number: about["look"] for number, about in PULSE.others.items()} == {1: 199, 2: 199}
    assert json.loads(board.texts[3]) | {"host": ""} == {
        "host": "",
        "phase": "training",
        "step": 199,
        "idle": 0.0,
        "own_seconds": 0.25,
        "look": 200,
    }


def test_a_silent_process_is_named(now):
    board = Board()
    own = dog(board)
    for look in range(30):
        now(1.0)
        PULSE.beat(step=look)
        board.other(1, look=look)
        board.other(2, look=min(look, 5))
        own.exchange()
        verdict = own.verdict()
        assert (verdict is None) == (look <= 25)
    assert verdict.code == RESTART
    assert "nothing is heard of process 2 on host-2 (step 7) for 24 s" in verdict.why


def test_one_that_has_ended_is_not_missed_and_one_that_failed_ends_the_others(now):
    board = Board()
    own = dog(board)
    board.other(1, ended="done")
    board.other(2, ended="failed", why="the disk is full")
    own.exchange()
    assert own.verdict() is None  # it may end by itself, with a message of its own
    now(6.0)
    own.exchange()
    verdict = own.verdict()
    assert verdict.code == 2
    assert verdict.why == "process 2 on host-2 (step 7) has failed: the disk is full"
    board.texts.pop(2)
    other = dog(board)
    other.exchange()
    now(50.0)
    other.exchange()
    assert other.verdict() is None


def test_a_signal_before_the_first_step_is_passed_on_and_then_ends_the_process(now, monkeypatch):
    board, sent = Board(), []
    own = dog(board)
    monkeypatch.setattr(watchdog.os, "kill", lambda _, number: sent.append(number))
    board.other(1, ended="stopped", signal=15)
    own.exchange()
    assert own.verdict() is None
    now(3.0)
    assert own.verdict() is None
    assert sent == [15]
    now(3.0)
    verdict = own.verdict()
    assert (verdict.code, verdict.why) == (143, "process 1 on host-1 (step 7) was stopped by SIGTERM")


def test_a_process_that_hangs_says_where_the_others_are(now):
    board = Board()
    own = dog(board)
    for look in range(70):
        now(1.0)
        board.other(1, look=look, idle=look + 1.0, phase="evaluating")
        board.other(2, look=look, step=8)
        own.exchange()
        verdict = own.verdict()
        assert (verdict is None) == (look < 60)
    assert verdict.threads
    assert "nothing has happened for 70 s (runtime.stall), training after step 8" in verdict.why
    assert "process 1 on host-1 (step 7) is evaluating, idle for 70 s; process 2 on host-2 (step 8)" in verdict.why
    assert dog(board, stall=None).verdict() is None


@pytest.mark.parametrize("down", [True, False])
def test_a_board_that_does_not_answer_is_process_0s(now, down):
    board = Board()
    own = dog(board)
    own.exchange()
    if down:
        board.down = True
        own.exchange()
    else:  # a call that never returns
        now(30.0)
        PULSE.beat()
    verdict = own.verdict()
    assert verdict.why.startswith("process 0, which all others depend on, cannot be reached")
    assert ("UNAVAILABLE" in verdict.why) == down


def test_the_thread_leaves_once_the_run_hangs_and_not_after_its_end():
    left = []
    with Watchdog(stall=0.3, leave=left.append):
        time.sleep(0.1)
        assert not left
        time.sleep(0.8)
        assert left
    assert all("runtime.stall" in verdict.why for verdict in left)
    count = len(left)
    time.sleep(0.4)
    assert len(left) == count


def test_a_process_that_was_suspended_begins_anew(now):
    left = []
    own = dog(Board(), leave=left.append)
    own.exchange()
    own.judge()
    now(3600.0)
    own.judge()
    assert not left
    for _ in range(70):
        now(1.0)
        own.exchange()
        own.judge()
    assert "nothing has happened for 61 s" in left[0].why


def test_how_a_process_ends_is_on_the_board(monkeypatch):
    monkeypatch.setattr(watchdog, "_alone", threading.Event())
    monkeypatch.setattr(watchdog, "MAIN_LATER", 0.1)
    ends = [(None, "done"), (ValueError("no"), "failed"), (KeyboardInterrupt(), "failed")]
    ends += [(Stopped(15, "all have agreed"), "done"), (Stopped(15, "at once", alone=True), "stopped")]
    for error, ended in ends:
        board = Board()
        watchdog._alone.clear()
        with contextlib.suppress(ValueError, KeyboardInterrupt, Stopped), dog(board, leave=lambda _: None):
            if error:
                raise error
        told = json.loads(board.texts[3])
        assert told["ended"] == ended
        assert told.get("signal") == (15 if ended == "stopped" else None)
        assert watchdog.ends_alone() == (ended != "done")


def test_after_a_failure_a_process_leaves_at_once_unless_the_others_are_done_and_process_0_leaves_last(now, monkeypatch):
    """JAX would wait for those that have left."""
    monkeypatch.setattr(watchdog, "_alone", threading.Event())
    waited = []
    for number, ends, alone, seconds in (
        (3, ["done", "done"], False, 0.0),
        (3, ["failed", "done"], True, 0.0),
        (3, ["stopped", None], True, watchdog.MAIN_LATER),
        (0, ["failed", "stopped"], True, watchdog.MAIN_LATER + watchdog.GRACE),
        (0, ["failed, left", "stopped, left"], True, 0.0),
    ):
        board, waited[:] = Board(), []
        own = Watchdog(number, 3, board, stall=None, leave=lambda _: None)
        for other, how in enumerate(ends, 1):
            ended, _, left = (how or "").partition(", ")
            board.other(other, **({"ended": ended} if ended else {}), **({"leaves": True} if left else {}))
        monkeypatch.setattr(board, "write", lambda text, board=board, number=number: board.texts.update({number: text}))
        monkeypatch.setattr(watchdog.time, "sleep", lambda x: (waited.append(x), now(x)))
        watchdog._alone.clear()
        own._end(ValueError("no"))
        assert watchdog.ends_alone() == alone
        assert sum(waited) == pytest.approx(seconds, abs=0.3), ends
        assert ("leaves" in json.loads(board.texts[number])) == alone
