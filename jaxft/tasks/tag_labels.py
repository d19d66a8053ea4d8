"""Convert the tags in files to IOB2 and to label ids."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from jaxft.config import DataConfig
from jaxft.core.errors import UserError, some
from jaxft.data.formats.sentences import TAGS, WORDS, location
from jaxft.data.formats.tags import are_iob2, canonical, find_violation, mark_entities, to_iob2, to_scheme_of
from jaxft.data.reading import files
from jaxft.data.reading.class_labels import label_names
from jaxft.data.reading.columns import map_column
from jaxft.data.reading.sources import read_rows
from jaxft.tasks.labels import label_column


def declared_tags(data: DataConfig) -> list[str]:
    """The tag names that the features of the training data declare, in order; text files declare none."""
    given = [] if data.dataset else files.files_of(data, "train")
    if given and not any(file.is_dir() or files.file_format(file) in (".parquet", ".arrow") for file in given):
        return []
    column = label_column(data)
    rows = read_rows(replace(data, columns=None), "train", needed=[], wanted=[column, data.text])
    return (label_names(rows.features[column]) or []) if column in rows.column_names else []


def scheme_of(tags: Collection[str], option: str, origin: str) -> str:
    """Resolve `task.tag_scheme`: auto becomes none if the tags do not mark entities.

    Raises:
      UserError: if the option is auto and the tags are numbers.
    """
    if option != "auto":
        return option
    if all(tag.isdecimal() for tag in tags):
        raise UserError(
            f"{origin}: the tags are numbers ({some(sorted(tags, key=int))}); name them in task.labels, or set "
            "task.tag_scheme to none"
        )
    return "auto" if mark_entities(canonical(tags).values()) else "none"


def read_tags(rows: Any, numbered: Sequence[str], scheme: str, origin: str) -> list[list[str]]:
    """The tags of every sentence; numbers are replaced by names, and tags are in IOB2 unless the scheme is none.

    Args:
      rows, origin: the rows from `read_sentences`, and their file.
      numbered: the names of tags that are numbers; not used if these names are numbers themselves.
      scheme: a name in `tags.LETTERS`, or none.

    Raises:
      UserError: if the scheme does not allow a tag, or a number has no name; the message names the line or row.
    """
    found: list[list[str]] = map_column(rows, TAGS, list)
    if numbered and not any(name.isdecimal() for name in numbered):
        names = {str(i): name for i, name in enumerate(numbered)}
        if all(tag.isdecimal() for tag in chain.from_iterable(found)):
            _check(found, names, rows, origin, f"but there are only {len(names)} labels ({some(list(numbered))})")
            found = [[names[tag] for tag in tags] for tags in found]
    if scheme == "none":
        return found
    spelling = canonical(chain.from_iterable(found))
    given, found = found, [[spelling[tag] for tag in tags] for tags in found]
    for i, tags in enumerate(found):
        if wrong := find_violation(tags, scheme):
            hint = "; task.tag_scheme none takes tags as they are"
            _refuse(rows, origin, i, wrong[0], given[i][wrong[0]], wrong[1] + hint)
    return [to_iob2(tags) for tags in found]


def tag_ids(rows: Any, numbered: Sequence[str], names: Sequence[str], scheme: str, origin: str) -> np.ndarray:
    """The label ids of all words, int32 [words]; for the other arguments see `read_tags`.

    Raises:
      UserError: if a tag is not in `names`; the message names its line or row.
    """
    ids = {name: i for i, name in enumerate(names)}
    found = _tags_as(names, rows, numbered, scheme, origin)
    why = f"which is not one of the {len(ids)} known labels ({some(list(names))})"
    _check(found, ids, rows, origin, f"{why}; data.unknown_labels drop leaves such sentences out")
    return np.array([ids[tag] for tag in chain.from_iterable(found)], np.int32)


def unknown_tags(rows: Any, numbered: Sequence[str], names: Sequence[str], scheme: str, origin: str) -> np.ndarray:
    """Whether each sentence has a tag that is not in `names`, bool [sentences]; for the arguments see `tag_ids`."""
    known = set(names)
    return np.array([not known.issuperset(tags) for tags in _tags_as(names, rows, numbered, scheme, origin)], bool)


def _tags_as(names: Sequence[str], rows: Any, numbered: Sequence[str], scheme: str, origin: str) -> list[list[str]]:
    """`read_tags` in the scheme and spelling of a model's label names."""
    found = read_tags(rows, numbered, scheme, origin)
    return found if scheme == "none" or are_iob2(names) else [to_scheme_of(tags, names) for tags in found]


def _check(found: list[list[str]], known: Collection[str], rows: Any, origin: str, why: str) -> None:
    for i, tags in enumerate(found):
        for j, tag in enumerate(tags):
            if tag not in known:
                _refuse(rows, origin, i, j, tag, why)


def _refuse(rows: Any, origin: str, sentence: int, word: int, tag: str, why: str) -> None:
    text = rows[sentence][WORDS][word]
    at = ": ".join(location(rows, origin, sentence, word))
    raise UserError(f'{at} has the tag "{tag}" ("{text}"), {why}')
