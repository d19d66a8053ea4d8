"""Where a model errs: confusions, scores per label, calibration, and the worst errors with their texts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxft.data.formats.prediction_rows import ROW, column, fields
from jaxft.report import outcomes
from jaxft.report.markup import Markup, cut, element, number, section, table
from jaxft.report.plot import diagonal_chart, scatter_chart
from jaxft.report.run_files import MOST_ROWS, RunFiles

MOST_IN_MATRIX, SHOWN_OF_MANY = 30, 20  # labels of a whole matrix, and of the part that is shown if there are more
_COLOURS = (
    "Red words move the model towards its mistake and away from the gold answer, green words the other way (gradient times "
    "input); red words that do it much are underlined."
)
MOST_PAIRS, MOST_LABELS, MOST_ERRORS, MOST_WORDS = 40, 500, 30, 250


def shown_predictions(run: RunFiles) -> tuple[str, list[dict[str, Any]]]:
    """(the split, its predictions): of the validation data, or else the test data; none before the end of a run."""
    for split in ("validation", "test"):
        if rows := run.predictions(split):
            return split, rows
    return "", []


def sections(run: RunFiles, words: Sequence[Any] = ()) -> Iterator[Markup]:
    """The sections on the predictions of a run; `words` are the scores of the words of the worst errors, in order."""
    shown = False
    for part in run.tasks or [run]:
        split, rows = shown_predictions(part)
        if rows:
            yield from _of_split(part, split, rows, words)
            shown = True
    if not shown:
        yield section("Errors", element("p", "The predictions of validation and test are written at the end of a run."))


def _titled(run: RunFiles, title: str, *content: Any, about: str | None = None) -> Markup:
    """A section, whose title names the task if the run has several."""
    return section(f"{title} of {run.task}" if run.task else title, *content, about=about)


def _of_split(run: RunFiles, split: str, rows: Sequence[Mapping[str, Any]], words: Sequence[Any]) -> Iterator[Markup]:
    if len(rows) == MOST_ROWS:
        split = f"first {MOST_ROWS:,} {split}"
    found = outcomes.confusion(rows)
    labels = sorted({label for pair in found for label in pair})
    if len(labels) > 1:
        about = f"Of the {split} data; rows are gold labels."
        if outcomes.form(rows[0]) == "labels":
            about += " A gold label that is not predicted counts with each label that is predicted wrongly in its place."
        yield _titled(run, "Confusions", *_confusions(found, labels), about=about)
    if scores := outcomes.label_scores(rows):
        head = ["label", "F1", "precision", "recall", "examples", "predicted"]
        cells = [
            [x.label, *map(number, (x.f1, x.precision, x.recall, x.support, x.predicted))] for x in scores[:MOST_LABELS]
        ]
        more = f" The worst {MOST_LABELS} of {len(scores):,} are shown." if len(scores) > MOST_LABELS else ""
        about = f"Of the {split} data, the lowest F1 first.{more}"
        yield _titled(run, "Labels", table(head, cells, label="Scores by label"), about=about)
    if targets := outcomes.numbers(rows):
        charts = [scatter_chart(points, label=name, x_label="gold") for name, points in targets.items()]
        about = f"Of the {split} data: gold to the right, predicted upwards; right predictions lie on the diagonal."
        yield _titled(run, "Numbers", element("div", charts, class_="grid"), about=about)
    if points := outcomes.calibration(rows):
        error = outcomes.calibration_error(points)
        about = (
            f"Of the {split} data: how often predictions of a confidence are right. The expected calibration error is "
            f"{number(error)}; points below the diagonal are too confident, points above it too cautious."
        )
        yield _titled(run, "Calibration", diagonal_chart(points, label=f"Share right by confidence, {split}"), about=about)
    yield _errors(run, split, rows, words)


def _confusions(found: outcomes.Confusion, labels: Sequence[str]) -> Iterator[Markup]:
    pairs = outcomes.most_confused(found, MOST_PAIRS)
    if len(labels) <= MOST_IN_MATRIX:
        yield _matrix(found, labels)
    elif pairs:
        some = outcomes.in_most_mistakes(found, SHOWN_OF_MANY)
        yield element("p", f"The {len(some)} of {len(labels):,} labels that take part in most mistakes:", class_="about")
        yield _matrix(found, some)
    if pairs:
        totals = {gold: 0 for gold, *_ in pairs}
        for (gold, _), count in found.items():
            if gold in totals:
                totals[gold] += count
        cells = [[gold, predicted, f"{count:,}", f"{count / totals[gold]:.0%}"] for gold, predicted, count in pairs]
        head = ["gold", "predicted as", "examples", "of gold"]
        yield element("h3", "Most frequent mistakes")
        yield table(head, cells, label="Most frequent mistakes", numbers_from=2)


def _matrix(found: outcomes.Confusion, labels: Sequence[str]) -> Markup:
    """The matrix of counts, whose colours are shares of the gold label; with the other labels as a last column."""
    totals: dict[str, int] = {}
    for (gold, _), count in found.items():
        totals[gold] = totals.get(gold, 0) + count
    rest = any(predicted not in labels for gold, predicted in found if gold in labels)
    head = [element("td"), *(element("th", element("span", x), scope="col", title=x) for x in labels)]
    head += [element("th", element("span", "others"), scope="col")] if rest else []
    body = []
    for gold in labels:
        counts = [(x, found.get((gold, x), 0)) for x in labels]
        if rest:
            counts.append(("others", totals.get(gold, 0) - sum(count for _, count in counts)))
        cells = [_cell(gold, x, count, totals.get(gold, 0)) for x, count in counts]
        body.append(element("tr", element("th", gold, scope="row", title=gold), cells))
    inner = element("table", element("thead", element("tr", head)), element("tbody", body), class_="matrix")
    return element("div", inner, class_="scroll", role="region", tabindex="0", aria_label="Confusion matrix")


def _cell(gold: str, predicted: str, count: int, total: int) -> Markup:
    if not count:
        return element("td", "·", class_="none")
    share = count / total
    kind = f"{'right' if gold == predicted else 'wrong'}{' strong' if share > 0.55 else ''}"
    hint = f"{gold} as {predicted}: {count:,} of {total:,}"
    return element("td", f"{count:,}", class_=kind, style=f"--share:{max(share, 0.06):.2f}", title=hint)


def _errors(run: RunFiles, split: str, rows: Sequence[Mapping[str, Any]], words: Sequence[Any]) -> Markup:
    wrong = sum(row.get("gold") is not None and not outcomes.is_right(row) for row in rows)
    known = sum(row.get("gold") is not None for row in rows)
    if not known:
        return _titled(run, "Errors", element("p", f"The rows of the {split} data have no gold answers."))
    worst = outcomes.worst(rows, MOST_ERRORS)
    own = list(words) or [None] * len(worst)
    items = [element("li", _error(run, row, x), class_="error") for row, x in zip(worst, own, strict=True)]
    colours = f" {_COLOURS}" if words else ""
    if outcomes.form(rows[0]) == "numbers":
        return _titled(
            run, "Errors", element("ol", items), about=f"The {len(worst)} {split} examples furthest from gold.{colours}"
        )
    about = f"{wrong:,} of {known:,} {split} examples are wrong ({wrong / known:.1%}); the worst {len(worst)} are shown, "
    about += f"the worst first.{colours}"
    return _titled(
        run, "Errors", element("ol", items), about=about if wrong else f"None of {known:,} {split} examples is wrong."
    )


def _error(run: RunFiles, row: Mapping[str, Any], words: Sequence[Any] | None = None) -> Markup:
    kind = outcomes.form(row)
    own = {name: row[name] for name in fields(row)}
    score = own.get("score")
    if kind == "tags":
        return Markup(_place(row) + element("p", _tagged(row), dir="auto", class_="text") + _weighed(words or ()))
    if kind == "answer":
        gold = "; ".join(row["gold"]) or "no answer"
        verdict = element(
            "p", element("b", row.get("prediction") or "no answer"), f" ({number(score)}); gold: ", element("b", gold)
        )
        asked = _weighed(words) if words else element("p", _column(run, row, "question"), dir="auto", class_="text")
        context = element("p", _marked(row, _column(run, row, "context")), dir="auto", class_="text context")
        return Markup(_place(row) + verdict + asked + context)
    shares = own.get("probabilities")
    gold, predicted = row["gold"], row["prediction"]
    of_gold = None
    if isinstance(shares, dict) and isinstance(gold, str):
        of_gold = shares.get(gold)
    elif isinstance(shares, list) and isinstance(gold, int):
        of_gold = shares[gold]
    verdict = element(
        *("p", element("b", _shown(predicted)), f" ({number(score)})" if score is not None else "", "; gold: "),
        *(element("b", _shown(gold)), f" ({number(of_gold)})" if of_gold is not None else ""),
    )
    return Markup(_place(row) + verdict + (_weighed(words) if words else _texts(run, row)))


def _texts(run: RunFiles, row: Mapping[str, Any]) -> Markup:
    """The texts of a row: the columns that the model reads, or else all that are not ours."""
    given = [run.config.get(f"data.{name}") for name in ("text", "text_pair")]
    texts = [text for x in given if x is not None and (text := column(row, x)) is not None]
    texts = texts or [x for name, x in row.items() if name not in fields(row) | {ROW}]
    return Markup("".join(element("p", cut(_shown(text)), dir="auto", class_="text") for text in texts))


def _weighed(texts: Sequence[Sequence[tuple[str, float]]]) -> Markup:
    """Texts whose words are coloured by their scores, as shares of the highest of all."""
    highest = max((abs(score) for words in texts for _, score in words), default=0) or 1

    def word(text: str, score: float) -> Markup | str:
        share = abs(score) / highest
        if share < 0.05:
            return text
        kind = f"word {'wrong' if score > 0 else 'right'}{' much' if share > 0.4 else ''}"
        return element("span", text, class_=kind, style=f"--share:{share:.2f}", title=f"{score:+.3g}")

    shown = [[word(*x) for x in words[:MOST_WORDS]] + ["[...]"] * (len(words) > MOST_WORDS) for words in texts]
    return Markup("".join(element("p", words, dir="auto", class_="text") for words in shown))


def _tagged(row: Mapping[str, Any]) -> list[Any]:
    """The words of a sentence, of which those with a wrong tag or any tag are marked."""
    parts: list[Any] = []
    for word, gold, predicted in zip(row["words"], row["gold"] or (), row["prediction"] or (), strict=False):
        if gold == predicted == "O":
            parts.append(word)
        elif gold == predicted:
            parts.append(element("mark", word, element("small", f" {gold}"), class_="right"))
        else:
            parts.append(element("mark", word, element("small", f" {predicted}, gold {gold}"), class_="wrong"))
        parts.append(" ")
    return parts


def _column(run: RunFiles, row: Mapping[str, Any], name: str) -> str:
    """The text of the question or the context."""
    return str(column(row, run.config.get(f"data.{name}") or name) or "")


def _marked(row: Mapping[str, Any], context: str, margin: int = 160) -> list[Any]:
    """The surroundings of the predicted and the first gold answer in the context, both marked."""
    spans = []
    if row.get("prediction") and isinstance(row["start"], int):
        spans.append((row["start"], row["start"] + len(row["prediction"]), "wrong"))
    for gold in row["gold"][:1]:
        at = context.find(gold)
        if at >= 0 and not any(at < end and begin < at + len(gold) for begin, end, _ in spans):
            spans.append((at, at + len(gold), "right"))
    if not spans:
        return [cut(context, 400)]
    parts, done = [], max(0, min(spans)[0] - margin)
    parts += ["[...] "] if done else []
    for begin, end, kind in sorted(spans):
        between = context[done:begin]
        parts += [between if len(between) < 3 * margin else f"{between[:margin]} [...] {between[-margin:]}"]
        parts += [element("mark", cut(context[begin:end]), class_=kind)]
        done = end
    return [*parts, context[done : done + margin], " [...]" if done + margin < len(context) else ""]


def _place(row: Mapping[str, Any]) -> Markup:
    return element("span", f"row {row['row']:,}", class_="about place") if isinstance(row.get("row"), int) else Markup()


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number(x)}" for name, x in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return number(value) if isinstance(value, float) else str(value)
