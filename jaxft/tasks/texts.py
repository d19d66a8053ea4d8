"""Read and tokenise one or two text columns, for tasks on whole texts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxft.config import DataConfig
from jaxft.core.errors import UserError
from jaxft.data.cleaning.columns import clean_columns
from jaxft.data.reading import files
from jaxft.data.reading.columns import column_values
from jaxft.data.reading.empty_texts import PLACEHOLDER, with_placeholders
from jaxft.data.reading.row_numbers import row_names, select_rows
from jaxft.data.reading.sources import read_rows
from jaxft.data.tokens.encode import encode_texts

encode = encode_texts  # for rows from `read`


def columns(config: DataConfig) -> list[str]:
    """The text columns that the data must have."""
    return [config.text, *([config.text_pair] if config.text_pair else [])]


def of_rows(rows: Any, config: DataConfig) -> Iterator[tuple[str, ...]]:
    """The texts of each row, one for each of `columns(config)`."""
    return zip(*(column_values(rows, column) for column in columns(config)), strict=True)


def read(
    config: DataConfig,
    split: str,
    others: Sequence[str] = (),
    texts: Sequence[str] | None = None,
    kinds: Mapping[str, type] | None = None,
    more_texts: Sequence[str] = (),
) -> Any:
    """Read the text columns of a split, `columns(config)` by default, and `others`, whose types `kinds` gives by name.

    Texts are cleaned as `data.clean` says, also those of `more_texts`, columns among `others` whose texts may be empty.

    Rows with empty texts are refused, dropped or replaced by placeholders, as `data.empty_texts` says (see
    `data/reading/empty_texts`). Rows with numbers instead of texts are treated likewise, but never dropped.
    """
    texts = columns(config) if texts is None else texts
    rows = read_rows(config, split, needed=[*texts, *others], kinds={**dict.fromkeys(texts, str), **(kinds or {})})
    origin = files.origin(config, split)
    rows = clean_columns(rows, [*texts, *more_texts], config, origin)
    return _without_empty(rows, texts, config, origin)


def _without_empty(rows: Any, texts: Sequence[str], config: DataConfig, origin: str) -> Any:
    keep = np.ones(len(rows), bool)
    for column in texts:
        for i, value in enumerate(column_values(rows, column)):
            if isinstance(value, str) and value.strip():
                continue
            if value is not None and not isinstance(value, str) and config.empty_texts != "null":
                raise UserError(f'{row_names(rows, origin)(i)} has {value!r} in column "{column}": must be text')
            if config.empty_texts == "error":
                raise UserError(
                    f'{row_names(rows, origin)(i)} has an empty text in column "{column}"'
                    f"{' after data.clean' if config.clean.edits else ''} (data.empty_texts drop leaves such rows out)"
                )
            keep[i] = False
    if keep.all():
        return rows
    if config.empty_texts == "null":
        filled = {
            column: [x if kept else PLACEHOLDER for x, kept in zip(column_values(rows, column), keep, strict=True)]
            for column in texts
        }
        return with_placeholders(rows, ~keep, filled)
    if not keep.any():
        raise UserError(f"{origin}: every text is empty")
    return select_rows(rows, np.flatnonzero(keep))
