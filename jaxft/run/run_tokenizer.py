"""The tokenizer of a run (the model's own, perhaps with new words, or another), and where its embedding rows come from."""

import atexit
import re
import shutil
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.config import VocabularyConfig
from jaxft.core.errors import UserError, some
from jaxft.core.model_source import resolve
from jaxft.core.utf8 import read_text
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.models.vocab_resize import Sources

LISTED = 50  # words that a message lists at most
BATCH = 1000  # words tokenised at once
ROLES = ("pad", "unk", "bos", "eos", "cls", "sep", "mask")  # special tokens, as in cls_token and cls_token_id
TWINS = {"bos": "cls", "cls": "bos", "eos": "sep", "sep": "eos"}  # special tokens with the same role in other families
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, the directory with its files, and the model's tokenizer if that is a different one."""

    tokenizer: Any
    directory: Path
    previous: Any = None

    def sources(self) -> Sources:
        """Where each row of the new embedding table comes from in the previous tokenizer's table."""
        new, old = self.tokenizer, self.previous
        ids, old_ids = new.get_vocab(), old.get_vocab()
        size = max(ids.values()) + 1
        if all(ids.get(token) == i for token, i in old_ids.items()):  # words were added
            rows = np.arange(size)
            rows[max(old_ids.values()) + 1 :] = -1
            texts = {i: f" {token}" for token, i in ids.items() if token not in old_ids}
            rows[list(texts)] = -1
            return Sources(rows, _pieces(old, texts), {})
        rows, texts = np.full(size, -1), {}
        spelled: dict[tuple[str, bool], dict[str, int]] = {}
        for token, spelling in spellings(old):
            spelled.setdefault(spelling, {})[token] = old_ids[token]
        for token, spelling in spellings(new):
            i, same = ids[token], spelled.get(spelling, {})
            if token in same:
                rows[i] = same[token]
            elif same and "\ufffd" not in spelling[0]:  # decoders write this character for part of another
                rows[i] = min(same.values())
            else:
                texts[i] = " " * spelling[1] + spelling[0]
        for role in ROLES:
            same_role = (getattr(old, f"{name}_token_id") for name in (role, TWINS.get(role, role)))
            i, old_id = getattr(new, f"{role}_token_id"), next((x for x in same_role if x is not None), None)
            if i is not None and old_id is not None:
                rows[i] = old_id
        roles = {f"{role}_token_id": getattr(new, f"{role}_token_id") for role in ROLES}
        return Sources(rows, _pieces(old, texts), {name: i for name, i in roles.items() if i is not None})


def open_vocabulary(
    config: VocabularyConfig, model: Path, recorded: Path | None, texts: Callable[[], Iterable[str]]
) -> Vocabulary:
    """Open the tokenizer that the config asks for: that of the model's directory, perhaps with new words, or another.

    The `recorded` tokenizer in the run's directory is used unchanged if there is one. New words are counted in `texts`.

    Raises:
      UserError: if words are given twice, are known, or would never be seen by the tokenizer, or if there are too few.
    """
    own = load_tokenizer(model)
    if all(option is None for option in (config.words, config.file, config.most_frequent, config.tokenizer)):
        return Vocabulary(own, model)
    if recorded:
        return Vocabulary(load_tokenizer(recorded), recorded, own)
    if config.tokenizer:
        source = resolve(config.tokenizer)
        new = load_tokenizer(source)
    else:
        source, new = model, load_tokenizer(model)
    for where, tokenizer in {model: own, source: new}.items():
        if not tokenizer.is_fast:
            raise UserError(f"{where}: {type(tokenizer).__name__} takes no new words; it has no tokenizer.json")
    words = _given(config, new)
    if config.most_frequent:
        known = {*words, *new.get_vocab()}
        words += _most_frequent(texts(), new, config.most_frequent, config.min_pieces, known)
    _add_words(new, words)
    directory = Path(tempfile.mkdtemp(prefix="jaxft-tokenizer-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    new.save_pretrained(str(directory))
    return Vocabulary(load_tokenizer(directory), directory, own)


def _add_words(tokenizer: Any, words: Sequence[str]) -> None:
    """Add words to a fast tokenizer; each becomes one token wherever it occurs as a whole word.

    Raises:
      UserError: if the ids of the tokenizer have gaps, so that new words would take ids in use.
    """
    from tokenizers import AddedToken

    if not words:
        return
    before, spaced = set(tokenizer.get_vocab().values()), _takes_spaces(tokenizer, words[0])
    # Scripts without spaces between words (CJK) have no word boundaries to match.
    wide = [any(unicodedata.east_asian_width(letter) in "WF" for letter in word) for word in words]
    tokenizer.add_tokens(
        [AddedToken(word, single_word=not is_wide, lstrip=spaced) for word, is_wide in zip(words, wide, strict=True)]
    )
    ids = set(tokenizer.convert_tokens_to_ids(list(words)))
    if ids & before or len(ids) < len(words):
        raise UserError(
            f"{tokenizer.name_or_path}: gives new words ids that it uses already: its vocabulary has a word twice"
        )


def _takes_spaces(tokenizer: Any, word: str) -> bool:
    """Whether the tokenizer would make a token of its own of the space before a new word."""
    from tokenizers import AddedToken, Tokenizer

    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.no_padding()
    copy.add_tokens([AddedToken(word)])
    return len(copy.encode(f"{word} {word}", add_special_tokens=False)) > 2


def _given(config: VocabularyConfig, tokenizer: Any) -> list[str]:
    """The words that the config lists, validated."""
    given = {} if config.words is None else {"vocabulary.words": config.words}
    if config.file is not None:
        where = f"vocabulary.file {config.file}"
        given[where] = [line.strip() for line in read_text(config.file, where).split("\n") if line.strip()]
    found: list[str] = []
    for where, words in given.items():
        if not words:
            raise UserError(f"{where}: no words")
        if wrong := [word for word in words if not word or len(word.split()) != 1 or word != word.strip()]:
            raise UserError(f"{where}: not a word: {some([repr(word) for word in wrong])}")
        if twice := [word for word, n in Counter([*found, *words]).items() if n > 1]:
            raise UserError(f"{where}: more than once: {some(twice, LISTED)}")
        # Normalisers may put spaces around letters.
        if changed := {word: seen for word in words if (seen := "".join(_normalised(tokenizer, word).split())) != word}:
            pairs = [f"{word} (write {seen})" for word, seen in changed.items()]
            raise UserError(f"{where}: the tokenizer never sees {some(pairs)}")
        if known := [word for word in words if _is_known(tokenizer, word)]:
            raise UserError(f"{where}: the vocabulary already has {some(known, LISTED)}")
        found += words
    return found


def _most_frequent(texts: Iterable[str], tokenizer: Any, count: int, min_pieces: int, known: Collection[str]) -> list[str]:
    """The `count` most frequent words that are not known and split into at least `min_pieces` pieces.

    Words are runs of letters and digits, with a letter, in the texts after normalisation and pre-tokenisation. Equally
    frequent ones are in alphabetical order.

    Raises:
      UserError: if there are fewer.
    """
    splitter = tokenizer.backend_tokenizer.pre_tokenizer
    counts: Counter[str] = Counter()
    for text in texts:
        normal = _normalised(tokenizer, text)
        # Byte-level pre-tokenisers return the parts in another alphabet, so they are read from the text by their spans.
        parts = splitter.pre_tokenize_str(normal) if splitter else [(normal, (0, len(normal)))]
        for _, (start, stop) in parts:
            counts.update(_WORD.findall(normal[start:stop]))
    words = [word for word in counts if word not in known and any(map(str.isalpha, word))]
    order = sorted(words, key=lambda word: (-counts[word], word))
    found: list[str] = []
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        pieces = _token_ids(tokenizer, [f" {word}" for word in batch])
        found += [word for word, ids in zip(batch, pieces, strict=True) if len(ids) >= min_pieces]
        if len(found) >= count:
            return found[:count]
    raise UserError(
        f"vocabulary.most_frequent is {count}, but only {len(found)} words of the training texts split into {min_pieces} "
        "pieces or more: lower it, or vocabulary.min_pieces"
    )


def _normalised(tokenizer: Any, text: str) -> str:
    normaliser = tokenizer.backend_tokenizer.normalizer
    return normaliser.normalize_str(text) if normaliser else text


def _is_known(tokenizer: Any, word: str) -> bool:
    """Whether a word is one token."""
    (ids,) = _token_ids(tokenizer, [f" {word}"])
    return word in tokenizer.get_vocab() or (len(ids) == 1 and ids[0] != tokenizer.unk_token_id)


def _token_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text. A word with a leading space is tokenised as in the middle of a text."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def _pieces(tokenizer: Any, texts: Mapping[int, str]) -> dict[int, list[int]]:
    return dict(zip(texts, _token_ids(tokenizer, list(texts.values())), strict=True))


def spellings(tokenizer: Any) -> Iterator[tuple[str, tuple[str, bool]]]:
    """(token, (its text, whether it begins a word)) of every token that is not special.

    Both are read off the tokenizer's own decoder, whatever marks it uses (##, Ġ, ▁): it writes a space before a token that
    begins a word and follows another token.
    """
    decoder, special = tokenizer.backend_tokenizer.decoder, set(tokenizer.all_special_tokens)
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    anchor = tokenizer.convert_ids_to_tokens(_token_ids(tokenizer, ["a a"])[0])[-1]
    before = decoder.decode([anchor])
    for token in tokenizer.get_vocab():
        if token in special:
            continue
        if token in added:
            yield token, (token, True)
            continue
        text = decoder.decode([anchor, token])[len(before) :]
        yield token, (text.strip(), text.startswith(" "))
