"""The report as one html page, without scripts, other files or requests: the same bytes for the same runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxft.config import cli
from jaxft.core.output import writing
from jaxft.report import compare, curves, figures, mistakes, times
from jaxft.report.markup import Markup, element
from jaxft.report.run_files import CONFIG, RunFiles, read_run
from jaxft.report.style import STYLE

FILE = "report.html"
# Nothing may be fetched, whatever a text of the data holds.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(paths: Sequence[str | Path], output: str | Path, words: Sequence[Any] = ()) -> None:
    """Write the report of one or several run directories; for `words` see `mistakes.sections`.

    Raises:
      UserError: if one of them is no run directory, has a damaged file, or the output cannot be written.
    """
    text = page([read_run(path) for path in paths], words)
    with writing(str(output)) as file:
        file.write(text.encode())


def page(runs: Sequence[RunFiles], words: Sequence[Any] = ()) -> str:
    """The page of one run, or of several beside each other."""
    runs = _named_apart(runs)
    if len(runs) == 1:
        run = runs[0]
        title = f"Run {run.name}"
        content = [
            figures.results(run),
            figures.distillation(run),
            curves.training(runs),
            *mistakes.sections(run, words),
            figures.data(run),
        ]
        content += [
            curves.pace(runs),
            times.times(runs),
            figures.plan(run),
            figures.options(run, cli.read_text(run.directory / CONFIG)),
        ]
        model, task = run.config.get("model.path"), run.config.get("task.name") or "text-classification"
        task = ", ".join(x.task for x in run.tasks) or task
        about = f"{task} with {model or 'a new model'}"
    else:
        title = f"{len(runs)} runs"
        about = ", ".join(run.name for run in runs)
        content = [compare.comparison(runs), curves.training(runs), curves.pace(runs), times.times(runs)]
    return document(title, about, Markup("".join(content)))


def document(title: str, about: str, content: Markup) -> str:
    """The whole document, with links to the sections of the content."""
    names = [part.split('"', 1)[0] for part in content.split('<section id="')[1:]]
    links = [element("li", element("a", name.capitalize().replace("-", " "), href=f"#{name}")) for name in names]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", f"{title} - jaxft"),
        element("style", Markup(STYLE)),
    )
    header = element("header", element("h1", title), element("p", about, class_="about"))
    nav = element("nav", element("ul", links), aria_label="Sections")
    body = element("body", header, nav, element("main", content))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _named_apart(runs: Sequence[RunFiles]) -> list[RunFiles]:
    """The runs with names that differ: those of the same name by their directories as given."""
    names = [run.name for run in runs]
    return [run if names.count(run.name) == 1 else replace(run, name=str(run.directory)) for run in runs]
