"""Pictures as svg, made by functions of numbers alone: lines, bars and the diagonal of calibration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxft.report.markup import Markup, element, number

WIDTH, HEIGHT = 640, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 34  # margins
COLOURS = 8  # classes c0 ... c7 of the style sheet
MOST_POINTS, MOST_DOTS = 400, 1000

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
      name: in the legend; empty for a line without an entry.
      points: (x, y), x ascending; y may be None or not finite, which leaves a gap.
      colour: which colour, from 0.
      faint: whether it is behind another line, such as raw values behind smoothed ones.
      dots: whether its points are marked.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    colour: int = 0
    faint: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Scale:
    """A map from values between `low` and `high` to pixels between `start` and `stop`."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """The place of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


def ticks(low: float, high: float, most: int = 6, *, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` of them: multiples of 1, 2 or 5 times a power of ten.

    With `whole`, for what is counted, such as steps, they are whole numbers.
    """
    if not high > low:
        return [low]
    lowest = math.floor(math.log10(high - low)) - 2
    for exponent in range(max(lowest, 0) if whole else lowest, 400):
        for factor in (1, 2, 5):
            step = factor * 10.0**exponent
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first < most:
                return [float(f"{n * step:.12g}") for n in range(first, last + 1)]
    return [low, high]


def tick_labels(low: float, high: float, most: int = 6, *, whole: bool = False) -> list[tuple[float, str]]:
    """The ticks and what is written at them, with as many digits as tell them apart."""
    values = ticks(low, high, most, whole=whole)
    shown, digits = [number(value) for value in values], 4
    while len(set(shown)) < len(values) and digits < 12:
        digits += 1
        shown = [f"{value:,.{digits}g}" for value in values]
    return list(zip(values, shown, strict=True))


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most `most` points that look the same: the lowest and the highest of each stretch stay."""
    if len(points) <= most:
        return list(points)
    kept: list[Point] = []
    stretches = most // 2
    for i in range(stretches):
        part = points[i * len(points) // stretches : (i + 1) * len(points) // stretches]
        low, high = (choose(range(len(part)), key=lambda n: part[n][1]) for choose in (min, max))
        kept += [part[n] for n in sorted({low, high})]
    return kept


def smoothed(points: Sequence[tuple[float, float | None]], share: float = 0.05) -> list[Point]:
    """An exponential moving average over `share` of the points, without the pull of its start (as in Adam)."""
    known = [(x, y) for x, y in points if y is not None and math.isfinite(y)]
    keep = 1 - 1 / max(1.0, share * len(known))
    total = weight = 0.0
    found = []
    for x, y in known:
        total, weight = keep * total + (1 - keep) * y, keep * weight + (1 - keep)
        found.append((x, total / weight))
    return found


def line_chart(lines: Sequence[Line], *, label: str, x_label: str, zero: bool = False) -> Markup:
    """Lines over a common axis, with a legend if they have names.

    Args:
      lines: those behind first; lines without a single finite point are left out.
      label: the title, which a screen reader says.
      x_label: what x counts.
      zero: whether the axis begins at 0.
    """
    drawn = [(line, _segments(line.points)) for line in lines]
    points = [point for _, segments in drawn for segment in segments for point in segment]
    if not points:
        return element("p", f"{label}: no number yet.", class_="about")
    sharp = [p for line, segments in drawn if not line.faint for s in segments for p in s]
    x, y = _scales(points, _without_spikes(sharp or points, points), zero=zero)
    body: list[object] = [_axes(x, y, x_label, whole=all(float(a).is_integer() for a, _ in points))]
    for line, segments in drawn:
        colour = f"c{line.colour % COLOURS}"
        for segment in segments:
            path = " ".join(f"{x(a):.1f},{min(max(y(b), TOP - 4), HEIGHT):.1f}" for a, b in thinned(segment))
            body.append(element("polyline", points=path, class_=f"{colour} faint" if line.faint else colour))
            if (line.dots or len(segment) == 1) and len(segment) <= 60:
                for a, b in segment:
                    place = {"cx": f"{x(a):.1f}", "cy": f"{min(max(y(b), TOP - 4), HEIGHT):.1f}", "r": 3}
                    hint = element("title", f"{line.name} {number(b)} at {number(a)}".strip())
                    body.append(element("circle", hint, class_=colour, **place))
    named = [line for line, segments in drawn if line.name and segments]
    names = [element("li", element("span", class_=f"key c{line.colour % COLOURS}"), line.name) for line in named]
    legend = element("ul", names, class_="legend") if len(names) > 1 else None
    return element("figure", element("figcaption", label), _svg(body, label), legend)


def bar_chart(bars: Sequence[tuple[str, float]], *, label: str, x_label: str) -> Markup:
    """Bars side by side, each with its name and value; not all names are written if there are many."""
    if not bars:
        return element("p", f"{label}: no number yet.", class_="about")
    high = max(value for _, value in bars) or 1
    y = Scale(0, high * 1.05, HEIGHT - BOTTOM, TOP)
    width = (WIDTH - LEFT - RIGHT) / len(bars)
    body = [_y_axis(y)]
    every = -(-len(bars) // 12)
    for i, (name, value) in enumerate(bars):
        left = LEFT + i * width
        place = {"x": f"{left + width * 0.08:.1f}", "width": f"{width * 0.84:.1f}"}
        size = {"y": f"{y(value):.1f}", "height": f"{y(0) - y(value):.1f}"}
        body.append(element("rect", element("title", f"{name}: {number(value)}"), class_="c0", **place, **size))
        if i % every == 0:
            middle = {"x": f"{left + width / 2:.1f}", "y": HEIGHT - BOTTOM + 15}
            body.append(element("text", name, class_="tick middle", **middle))
    body.append(_x_title(x_label))
    return element("figure", element("figcaption", label), _svg(body, label))


def stacked_bars(bars: Sequence[tuple[str, Sequence[tuple[str, float]]]], *, label: str, x_label: str) -> Markup:
    """Level bars below each other, each made of parts with a name and a length; a part has its colour in all bars."""
    totals = [sum(size for _, size in parts) for _, parts in bars]
    if not any(totals):
        return element("p", f"{label}: no number yet.", class_="about")
    names = list(dict.fromkeys(name for _, parts in bars for name, _ in parts))
    bottom = TOP + 46 * len(bars)
    x = Scale(0, max(totals), LEFT, WIDTH - RIGHT)
    body: list[object] = []
    for i, (bar, parts) in enumerate(bars):
        top, done = TOP + 46 * i, 0.0
        body.append(element("text", bar, x=LEFT, y=top + 11, class_="tick"))
        for name, size in parts:
            place = {"x": f"{x(done):.1f}", "width": f"{x(size) - LEFT:.1f}", "y": top + 16, "height": 22}
            hint = element("title", f"{bar} {name}: {number(size)}".strip())
            body.append(element("rect", hint, class_=f"c{names.index(name) % COLOURS}", **place))
            done += size
    for value, shown in tick_labels(x.low, x.high):
        body.append(element("text", shown, x=f"{x(value):.1f}", y=bottom + 15, class_="tick middle"))
    body.append(element("text", x_label, x=WIDTH - RIGHT, y=bottom + 30, class_="tick end"))
    svg = element("svg", body, viewBox=f"0 0 {WIDTH} {bottom + 36}", role="img", aria_label=label)
    keys = [element("li", element("span", class_=f"key c{i % COLOURS}"), name) for i, name in enumerate(names)]
    return element("figure", element("figcaption", label), svg, element("ul", keys, class_="legend"))


def diagonal_chart(points: Sequence[tuple[float, float, int]], *, label: str) -> Markup:
    """Points (confidence, accuracy, count) beside the diagonal, on which a calibrated model lies; areas follow counts."""
    size = HEIGHT + 50
    x, y = Scale(0, 1, LEFT, LEFT + size - 80), Scale(0, 1, size - BOTTOM, TOP)
    body: list[object] = [_axes(x, y, "confidence", bottom=size - BOTTOM, right=LEFT + size - 80)]
    body.append(element("polyline", points=f"{x(0):.1f},{y(0):.1f} {x(1):.1f},{y(1):.1f}", class_="diagonal"))
    path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b, _ in points)
    body.append(element("polyline", points=path, class_="c0"))
    largest = max((count for *_, count in points), default=1)
    for a, b, count in points:
        hint = element("title", f"confidence {number(a)}, right {number(b)}, {count:,} examples")
        place = {"cx": f"{x(a):.1f}", "cy": f"{y(b):.1f}", "r": f"{3 + 6 * math.sqrt(count / largest):.1f}"}
        body.append(element("circle", hint, class_="c0", **place))
    svg = element("svg", body, viewBox=f"0 0 {size} {size}", role="img", aria_label=label, class_="square")
    return element("figure", element("figcaption", label), svg)


def scatter_chart(points: Sequence[Point], *, label: str, x_label: str) -> Markup:
    """Points beside the diagonal, on which x and y are equal; evenly chosen ones if there are more than MOST_DOTS."""
    known = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not known:
        return element("p", f"{label}: no number yet.", class_="about")
    few = [known[i * len(known) // MOST_DOTS] for i in range(MOST_DOTS)] if len(known) > MOST_DOTS else known
    size, bottom, right = HEIGHT + 50, HEIGHT + 50 - BOTTOM, LEFT + HEIGHT - 30
    low, high = min(min(p) for p in few), max(max(p) for p in few)
    pad = (high - low) * 0.05 or 1.0
    x, y = Scale(low - pad, high + pad, LEFT, right), Scale(low - pad, high + pad, bottom, TOP)
    body: list[object] = [_axes(x, y, x_label, bottom=bottom, right=right)]
    body.append(element("polyline", points=f"{LEFT},{bottom} {right},{TOP}", class_="diagonal"))
    body += [element("circle", cx=f"{x(a):.1f}", cy=f"{y(b):.1f}", r=2.5, class_="c0 dim") for a, b in few]
    svg = element("svg", body, viewBox=f"0 0 {size} {size}", role="img", aria_label=label, class_="square")
    return element("figure", element("figcaption", label), svg)


def _segments(points: Sequence[tuple[float, float | None]]) -> list[list[Point]]:
    """The stretches of points whose y is finite."""
    segments: list[list[Point]] = [[]]
    for x, y in points:
        if y is not None and math.isfinite(y):
            segments[-1].append((x, y))
        elif segments[-1]:
            segments.append([])
    return [segment for segment in segments if segment]


def _without_spikes(sharp: Sequence[Point], points: Sequence[Point]) -> list[float]:
    """The y values that the axis holds: all of the lines in front, and those behind without the outermost 2 %."""
    ranked = sorted(y for _, y in points)
    margin = len(ranked) // 50
    return [y for _, y in sharp] + ranked[margin : len(ranked) - margin]


def _scales(points: Sequence[Point], heights: Sequence[float], *, zero: bool) -> tuple[Scale, Scale]:
    xs = [x for x, _ in points]
    low, high = min([*heights, 0.0] if zero else heights), max(heights)
    if low == high:  # a level line lies in the middle
        pad = abs(low) * 0.1 or 1.0
        low, high = low - (0 if zero and low == 0 else pad), high + pad
    elif not zero or low < 0:
        low -= (high - low) * 0.04
    left, right = min(xs), max(xs)
    if left == right:
        left, right = left - 1, right + 1
    return Scale(left, right, LEFT, WIDTH - RIGHT), Scale(low, high + (high - low) * 0.04, HEIGHT - BOTTOM, TOP)


def _axes(
    x: Scale,
    y: Scale,
    x_label: str,
    bottom: float = HEIGHT - BOTTOM,
    right: float = WIDTH - RIGHT,
    *,
    whole: bool = False,
) -> list[Markup]:
    body = [_y_axis(y, right)]
    for value, shown in tick_labels(x.low, x.high, whole=whole):
        body.append(element("text", shown, x=f"{x(value):.1f}", y=f"{bottom + 15:.1f}", class_="tick middle"))
    body.append(element("text", x_label, x=f"{right:.1f}", y=f"{bottom + 30:.1f}", class_="tick end"))
    return body


def _y_axis(y: Scale, right: float = WIDTH - RIGHT) -> Markup:
    body = []
    for value, shown in tick_labels(y.low, y.high, 5):
        level = f"{y(value):.1f}"
        body.append(element("line", x1=LEFT, x2=f"{right:.1f}", y1=level, y2=level, class_="level"))
        body.append(element("text", shown, x=LEFT - 6, y=f"{y(value) + 4:.1f}", class_="tick end"))
    return Markup("".join(body))


def _x_title(text: str) -> Markup:
    return element("text", text, x=WIDTH - RIGHT, y=HEIGHT - 4, class_="tick end")


def _svg(body: Sequence[object], label: str) -> Markup:
    return element("svg", body, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)
