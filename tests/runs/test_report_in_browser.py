"""The report as a browser shows it: no script runs, nothing is requested, whatever the texts hold."""

import pytest

from jaxft.report.page import write_report
from tests.support.reports import BROWSER, journal, opened, prediction, write_run

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")
HOSTILE = [
    "<script>console.error('ran')</script>",
    "<img src=http://127.0.0.1:9/leak.png onerror=console.error('ran')>",
    "</main></body></html><h1>mine</h1>",
    "\x00\x1b[31m \u202ereversed \ud800 &amp; <!-- <style>body{display:none}</style>",
    "]]> <svg onload=console.error(1)> <link rel=stylesheet href=http://127.0.0.1:9/x.css>",
]


def test_nothing_runs_and_nothing_is_requested(tmp_path):
    rows = [prediction(f"gold {text}", f"wrong {text}", 0.9, text) for text in HOSTILE]
    run = write_run(tmp_path / "<b>run", rows=journal(), predictions=rows)
    write_report([run], tmp_path / "report.html")
    document, console, requested = opened(tmp_path / "report.html", tmp_path)
    assert (console, requested) == ([], [])
    assert "mine&lt;/h1&gt;" in document
    assert not any(f"<{name}" in document for name in ("script", "img", "iframe", "h1>mine", "b>run"))
    assert "".join(document.split()).endswith("</main></body></html>")


def test_the_check_sees_requests_and_errors(tmp_path):
    (tmp_path / "page.html").write_text("<img src=http://127.0.0.1:9/leak.png><script>console.error('ran')</script>")
    _, console, requested = opened(tmp_path / "page.html", tmp_path)
    assert any("ran" in line for line in console)
    assert requested == ["http://127.0.0.1:9/leak.png"]
