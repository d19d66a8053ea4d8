"""What the search of a data set found: a document with every row, and the lines that are printed."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from jaxft.config.clean import CleanConfig
from jaxft.core.errors import some
from jaxft.data.quality.label_shares import drift, label_counts
from jaxft.data.quality.measures import known_shares, letters_by_script, script_share
from jaxft.data.quality.repeats import Repeat, Search
from jaxft.data.quality.row_texts import RowTexts
from jaxft.data.quality.selection import MOSTLY, word_counts
from jaxft.data.reading.row_numbers import RowName

SHOWN = 3  # rows that a line names
LABELS = 3  # labels that a line names
LONG_LABEL = 40  # characters
SHORT = 2  # words below which a text is reported as short, unless the config says


@dataclass(frozen=True)
class Source:
    """Where the rows of a split come from: the file, and the name of each row in messages."""

    origin: str
    where: RowName


def findings(
    config: CleanConfig,
    search: Search,
    sources: Mapping[str, Source],
    *,
    tokenizer: Any = None,
    longest: int,
    counts_labels: bool = True,
    near: bool = True,
) -> dict[str, Any]:
    """Everything that is reported, whether or not it is left out: counts, and lists with every row.

    Args:
      config: `data.clean`; its limits of lengths, known tokens and scripts, or else their defaults here.
      search: the search for repeats.
      sources: by split.
      tokenizer: whose unknown tokens are counted; None counts none.
      longest: words above which a text is reported as long, unless the config says.
      counts_labels: whether labels are names whose shares are compared.
      near: whether near duplicates and leaks are searched for everywhere; otherwise those are reported that `search` has
        looked for already.
    """
    pairs = list(combinations(search.splits, 2))
    near_in = [split for split in search.splits if near or search.has_near(split)]
    near_between = [pair for pair in pairs if near or search.has_near_leaks(*pair)]
    places = [f"within {split}" for split in near_in] + [f"of {split} in {other}" for split, other in near_between]
    searched = {"near": places, "near everywhere": near, "near_similarity": config.near_similarity}
    found: dict[str, Any] = {"search": searched, "splits": {}}
    counts: dict[str, Counter[str]] = {}
    for split, rows in search.splits.items():
        source, duplicates, conflicts = sources[split], search.duplicates(split), search.conflicts(split)
        about: dict[str, Any] = {"data": source.origin, "examples": len(rows.texts)}
        about |= _words(rows.texts, source.where, config.min_words or SHORT, config.max_words or longest)
        about |= _scripts(rows.texts, source.where, config.scripts)
        if tokenizer is not None:
            about |= _tokens(rows.texts, source.where, tokenizer, MOSTLY if config.min_known is None else config.min_known)
        if rows.labels is not None and counts_labels:
            counts[split] = label_counts(rows.labels)
            about["labels"] = dict(counts[split].most_common())
        about["duplicates"] = _repeats(duplicates, source, source)
        if split in near_in:
            same, different = search.near(split)
            exact = {x.row for x in duplicates}
            about["near duplicates"] = _repeats([x for x in same if x.row not in exact], source, source)
            with_one_text = {row for same in conflicts for row in same}
            different = [x for x in different if not {x.row, x.other} <= with_one_text]
            about["near duplicates with another label"] = _repeats(different, source, source)
        if rows.labels is not None:
            about["texts with several labels"] = [
                [{"row": source.where(row), "label": ", ".join(rows.labels[row])} for row in same] for same in conflicts
            ]
        found["splits"][split] = about
    found["leaks"] = {}
    for split, other in pairs:
        exact = {x.row for x in search.leaks(split, other, near=False)}
        rows = search.leaks(split, other, near=(split, other) in near_between)
        named = _repeats(rows, sources[split], sources[other])
        found["leaks"][f"{split} in {other}"] = [{**x, "exact": r.row in exact} for x, r in zip(named, rows, strict=True)]
    found["drift"] = {
        f"{other} against {split}": asdict(drift(counts[split], counts[other]))
        for split, other in combinations(counts, 2)
        if len(counts[split] | counts[other]) > 1 and counts[split] and counts[other]
    }
    return found


def lines(found: Mapping[str, Any]) -> list[str]:
    """The report as it is printed."""
    text = [_searched(found["search"])]
    origins = [f"{about['data']}: " for about in found["splits"].values()]
    for split, about in found["splits"].items():
        words = about["words"]
        scripts = ", ".join(f"{name} {count:,}" for name, count in [*about["scripts"].items()][:SHOWN])
        known = f"; known tokens {about['known tokens']:.2%}" if "known tokens" in about else ""
        text.append(
            f"{split}: {about['examples']:,} examples of {about['data']}; words {words['least']:,} to {words['most']:,}, "
            f"median {words['median']:,}, 99 % up to {words['99 %']:,}; scripts {scripts or 'none'}{known}"
        )
        if labels := about.get("labels"):
            names = [f"{name} {count:,}" for name, count in labels.items()]
            shown = ", ".join(names) if len(names) <= LABELS else f"{names[0]} to {names[-1]}"
            text.append(f"{split}: {len(names)} {'label' if len(names) == 1 else 'labels'}, {shown}")
        for name in ("duplicates", "near duplicates", "near duplicates with another label"):
            text += _line(f"{split}: {name}", map(_repeat, about.get(name, [])), origins)
        conflicts = about.get("texts with several labels", [])
        text += _line(f"{split}: texts with several labels", map(_conflict, conflicts), origins)
        for name in ("short", "long", "mostly unknown", "other scripts"):
            if name in about:
                text += _line(f"{split}: {about[name]['limit']}", about[name]["rows"], origins)
    for name, rows in found["leaks"].items():
        exact = sum(x["exact"] for x in rows)
        text += _line(f"leaks, {name} ({exact:,} exact)", map(_repeat, rows), origins)
    for name, x in found["drift"].items():
        most = ", ".join(f'"{label}" from {p:.1%} to {q:.1%}' for label, p, q in x["labels"][:LABELS])
        text.append(
            f"labels of {name}: total variation {x['total_variation']:.3f} ({x['by_chance']:.3f} expected by chance), "
            f"Jensen-Shannon distance {x['jensen_shannon']:.3f}; largest changes {most}"
        )
    if changed := found.get("changed"):
        text.append(f"texts changed by each step: {', '.join(f'{name} {count:,}' for name, count in changed.items())}")
    return text


def _searched(search: Mapping[str, Any]) -> str:
    """What duplicates and leaks were searched for."""
    if not search["near"]:
        return "search for duplicates and leaks: exact ones only"
    where = "" if search["near everywhere"] else f" near ones only {' and '.join(search['near'])}"
    kinds = "exact ones;" + where if where else "exact and near ones"
    return f"search for duplicates and leaks: {kinds} (similarity of at least {search['near_similarity']:g})"


def _line(name: str, rows: Iterable[str], origins: Sequence[str]) -> list[str]:
    """A line that counts rows and names the first ones, without the files that the report names anyway."""
    rows = list(rows)
    shown = some(rows, SHOWN)
    for origin in origins:
        shown = shown.replace(origin, "")
    return [f"{name}: {len(rows):,}; {shown}"] if rows else []


def _repeat(found: Mapping[str, Any]) -> str:
    return f"{found['row']} repeats {found['other']}"


def _conflict(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows with their labels, or without long ones, such as all tags of a sentence."""
    rows = list({x["label"]: x for x in reversed(rows)}.values())[::-1]  # one of each label
    labelled = all(len(x["label"]) <= LONG_LABEL for x in rows)
    return " and ".join(f'{x["row"]} "{x["label"]}"' if labelled else x["row"] for x in rows[:SHOWN])


def _repeats(found: Sequence[Repeat], source: Source, other: Source) -> list[dict[str, Any]]:
    return [{"row": source.where(x.row), "other": other.where(x.other), "similarity": round(x.similarity, 4)} for x in found]


def _named(mask: np.ndarray, where: Callable[[int], str]) -> list[str]:
    return [where(int(row)) for row in np.flatnonzero(mask)]


def _words(texts: RowTexts, where: RowName, shortest: int, longest: int) -> dict[str, Any]:
    words = word_counts(texts)
    least, median, high, most = np.percentile(words, [0, 50, 99, 100], method="lower").astype(int).tolist()
    return {
        "words": {"least": least, "median": median, "99 %": high, "most": most},
        "short": {"limit": f"fewer than {shortest} words", "rows": _named(words < shortest, where)},
        "long": {"limit": f"more than {longest} words", "rows": _named(words > longest, where)},
    }


def _scripts(texts: RowTexts, where: RowName, wanted: Sequence[str] | None) -> dict[str, Any]:
    """The number of texts by the script of most of their letters, and the texts mostly in scripts other than `wanted`."""
    main = [max(found, key=found.__getitem__) if (found := letters_by_script(text)) else "" for text in texts]
    counts = Counter(main)
    wanted = wanted or [name for name, _ in counts.most_common() if name][:1]
    other = np.fromiter((script_share(text, wanted) < MOSTLY for text in texts), bool, len(texts))
    return {
        "scripts": {name or "no letters": count for name, count in counts.most_common()},
        "other scripts": {"limit": f"mostly not {' or '.join(wanted)}", "rows": _named(other, where)},
    }


def _tokens(texts: RowTexts, where: RowName, tokenizer: Any, least: float) -> dict[str, Any]:
    shares = known_shares(texts, tokenizer)
    return {
        "known tokens": float(shares.mean()),
        "mostly unknown": {"limit": f"less than {least:g} of the tokens known", "rows": _named(shares < least, where)},
    }
