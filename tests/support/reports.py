"""Run directories made by hand, and what a browser says about a page."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# The browser's own traffic, which no option turns off completely.
_OWN_HOSTS = ("google.com", "googleapis.com", "gstatic.com", "gvt1.com")


def write_run(
    directory: Path,
    *,
    rows: Sequence[Mapping[str, Any]] = (),
    predictions: Sequence[Mapping[str, Any]] = (),
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write the files of a run that a report reads."""
    (directory / "predictions").mkdir(parents=True)
    values = {"model": {"path": "tiny"}, "data": {"text": "text"}, "optim": {"learning_rate": 1e-3}} | dict(config or {})
    (directory / "config.yaml").write_text(yaml.safe_dump(values))
    for name, lines in {"metrics.jsonl": rows, "predictions/validation.jsonl": predictions}.items():
        if lines:
            (directory / name).write_text("".join(f"{json.dumps(x)}\n" for x in lines))
    return directory


def journal(steps: int = 40, every: int = 10) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl with a falling loss, evaluations and an end."""
    rows: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        own = {"loss": 3 / step + (step % 3) / 10, "learning_rate": 1e-3 * (1 - step / steps), "grad_norm": 1.0}
        rows.append({"step": step, "epoch": step / 10, **own, "tokens_per_second": 900 + step})
        if step % every == 0:
            rows.append({"step": step, "epoch": step / 10, "eval/loss": 2 / step, "eval/accuracy": 1 - 1 / step})
    return [*rows, {"step": steps, "selected_step": steps, "final": True, "eval/loss": 0.05, "eval/accuracy": 0.975}]


def prediction(gold: str, given: str, score: float, text: str, **more: Any) -> dict[str, Any]:
    """A row of predictions of one label per text."""
    shares = {gold: round(1 - score, 6)} | {given: score}
    return {"row": 1, "text": text, "gold": gold, "prediction": given, "probabilities": shares, "score": score, **more}


def opened(page: Path, folder: Path) -> tuple[str, list[str], list[str]]:
    """Open a page in a browser without a window: (the document after loading, messages of the console, addresses requested).

    Files of the page itself and `data:` addresses are no requests.
    """
    assert BROWSER
    log = folder / "net.json"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", "--enable-logging=stderr", f"--log-net-log={log}"]
    command = [BROWSER, *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    events = json.loads(log.read_text())["events"]
    found = {url for event in events if (url := event.get("params", {}).get("url", "")).startswith(("http", "ws", "ftp"))}
    hosts = {url: url.split("/")[2].split(":")[0] for url in found}
    return done.stdout, console, sorted(url for url, host in hosts.items() if not host.endswith(_OWN_HOSTS))
