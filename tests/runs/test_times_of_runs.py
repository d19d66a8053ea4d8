"""Where the time of a run went: over its starts, in its files, and on a terminal."""

import fcntl
import json
import os
import re
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

import jaxft
from jaxft.core.errors import CallbackError
from jaxft.train import train
from tests.support import read_jsonl, tiny
from tests.support.resuming import short_config


class Fails(jaxft.Callback):
    """Ends a run after step 1, when step 2 is done."""

    def on_step(self, step):
        if step.number == 1:
            raise ValueError("enough")


@contextmanager
def terminal(monkeypatch) -> Iterator[list[bytes]]:
    """A terminal on standard error, and what is written to it."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 150, 0, 0))  # rows and columns
    parts: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # the other end is closed
            while part := os.read(master, 65536):
                parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(slave, "w") as stream, monkeypatch.context() as changed:
            changed.setattr(sys, "stderr", stream)
            yield parts
    finally:
        reader.join()
        os.close(master)


def test_phases_add_up_to_the_time_of_all_starts_and_a_terminal_shows_them(tiny_data, tmp_path, monkeypatch):
    start = tiny.write_model(tmp_path / "start", num_hidden_layers=1)
    sections = {
        "data": {"validation": str(tiny_data / "dev.csv")},
        "log": {"every": 1, "progress": True, "predictions": False},
    }
    sections["runtime"] = {"distributed": "off", "unroll": 1, "keep_frozen": False}
    config = short_config(start, tiny_data, tmp_path / "run", plan={"preset": "head"}, **sections)
    with terminal(monkeypatch) as written:
        begin = time.perf_counter()
        with pytest.raises(CallbackError, match="step 2 is saved"):
            train(config, callbacks=[Fails()])
        first = json.loads((tmp_path / "run/times.json").read_text())
        train(config)
        took = time.perf_counter() - begin
    both = json.loads((tmp_path / "run/times.json").read_text())
    shown = b"".join(written).decode()
    assert sum(both["phases"].values()) == pytest.approx(took, rel=0.05, abs=0.2)
    assert all(x <= both["phases"][name] for name, x in first["phases"].items())
    absent = {name for name, seconds in first["phases"].items() if not seconds}
    assert absent == {"evaluating", "teaching"}
    assert (first["starts"], both["starts"], list(both["saved"])) == (1, 2, ["2", "3", "6", "7"])
    assert both["counted"] == pytest.approx(both["phases"]["training"], abs=0.1)  # no step was done twice
    final = read_jsonl(tmp_path / "run/metrics.jsonl")[-1]
    assert final["time"]["training"] == pytest.approx(both["phases"]["training"], abs=0.01)
    assert final["goodput"] == pytest.approx(final["time"]["training"] / sum(final["time"].values()), abs=0.02)
    names = re.findall(r"\r([a-z]+)(?: \d of \d)?(?:\x1b\[K|: +\d+%\|)", shown)
    assert {"reading", "tokenising", "preparing", "compiling", "training", "evaluating", "saving"} <= set(names)
    assert "compiling 1 of " in shown
    assert re.search(r"\d/7 \[.*, \d:\d\d left, loss \d\.\d{4}, lr \S+, [\d,]+ tokens/s", shown)
    assert "time in 2 starts: " in shown
    report = (tmp_path / "run/report.html").read_text()
    assert "Seconds by phase" in report
