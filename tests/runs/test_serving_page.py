"""The page of `jaxft serve` in a real browser: bars for labels, marks for entities, and messages of refusals."""

import html
import re
import subprocess
import threading
import time
from urllib.parse import quote

import pytest
import uvicorn

from jaxft.serving.app import make_app
from jaxft.serving.limits import Limits
from jaxft.serving.models import open_models
from jaxft.serving.service import Service
from tests.support import tiny
from tests.support.reports import BROWSER

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A function that returns the page as it is after it has run a model on a text."""
    folder = tmp_path_factory.mktemp("served")
    tiny.write_model(folder / "moods", labels=tiny.LABELS)
    tiny.write_model(folder / "tags", labels=["O", "B-place", "I-place"], kind="token-classification")
    models, _ = open_models({x: str(folder / x) for x in ("moods", "tags")}, max_length=32)
    service = Service(models, Limits())
    server = uvicorn.Server(uvicorn.Config(make_app(service, log="none"), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not (server.started and service.ready):
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]

    def show(model: str, text: str) -> str:
        address = f"http://127.0.0.1:{port}/#model={model}&text={quote(text)}"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
        done = subprocess.run([str(BROWSER), *options, address], capture_output=True, text=True, check=True, timeout=120)
        return done.stdout.partition('id="result"')[2].partition("<script")[0]

    yield show
    server.should_exit = True
    thread.join()


def test_labels_have_bars(shown):
    page = shown("moods", "the river")
    assert page.count('class="bar"') == len(tiny.LABELS)
    assert all(label in page for label in tiny.LABELS)


def test_entities_are_marked_in_the_text(shown):
    text = "the old <b>river</b> 🦀 runs under the bridge"
    page = shown("tags", text)
    marked = re.findall(r"<mark [^>]*>(.*?)<small>place</small></mark>", page)
    assert marked
    plain = re.sub(r"<small>.*?</small>|</?mark[^>]*>", "", page.partition("<p>")[2].partition("</p>")[0])
    assert html.unescape(plain) == text


def test_a_refusal_is_shown(shown):
    assert "there is no model nobody" in shown("nobody", "a text")
