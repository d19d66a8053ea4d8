"""The tokenizer of a run: the model's own, that with new words, or another; and where its embedding rows come from."""

import atexit
import shutil
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from jaxft.run.frequent_words import most_frequent

LISTED = 50  # words that a message lists at most
ROLES = ("pad", "unk", "bos", "eos", "cls", "sep", "mask")  # special tokens, as in cls_token and cls_token_id
TWINS = {"bos": "cls", "cls": "bos", "eos": "sep", "sep": "eos"}  # special tokens with the same role in other families


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, the directory with its files, and the model's tokenizer if that is a different one."""

    tokenizer: Any
    directory: Path
    previous: Any = None

    def sources(self) -> Sources:
        """Where each row of the new embedding table comes from in the previous tokenizer's table."""
        return _sources(self.tokenizer, self.previous)


def open_vocabulary(
    config: VocabularyConfig, model: Path, recorded: Path | None, texts: Callable[[], Iterable[str]]
) -> Vocabulary:
    """Open the tokenizer that the config asks for.

    Args:
      config: new words, or another tokenizer.
      model: directory of the model.
      recorded: the tokenizer in the run's directory, if there is one; it is used unchanged.
      texts: the training texts, in which words are counted.

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
        words += most_frequent(texts(), new, config.most_frequent, config.min_pieces, known=known)
    add_words(new, words)
    directory = Path(tempfile.mkdtemp(prefix="jaxft-tokenizer-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    new.save_pretrained(str(directory))
    return Vocabulary(load_tokenizer(directory), directory, own)


def add_words(tokenizer: Any, words: Sequence[str]) -> None:
    """Add words to a fast tokenizer; each becomes one token wherever it occurs as a whole word.

    Raises:
      UserError: if the ids of the tokenizer have gaps, so that new words would take ids in use.
    """
    from tokenizers import AddedToken

    if not words:
        return
    before, spaced = set(tokenizer.get_vocab().values()), _takes_spaces(tokenizer, words[0])
    # Scripts without spaces between words (CJK) have no word boundaries to match.
    alone = [not any(unicodedata.east_asian_width(letter) in "WF" for letter in word) for word in words]
    tokenizer.add_tokens([AddedToken(word, single_word=one, lstrip=spaced) for word, one in zip(words, alone, strict=True)])
    ids = set(tokenizer.convert_tokens_to_ids(list(words)))
    if ids & before or len(ids) < len(words):
        raise UserError(
            f"{tokenizer.name_or_path}: gives new words ids that it uses already: its vocabulary has a word twice"
        )


def _takes_spaces(tokenizer: Any, word: str) -> bool:
    """Whether the tokenizer would leave the space before a new word behind as a token of its own."""
    from tokenizers import AddedToken, Tokenizer

    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.no_padding()
    copy.add_tokens([AddedToken(word)])
    return len(copy.encode(f"{word} {word}", add_special_tokens=False)) > 2


def _given(config: VocabularyConfig, tokenizer: Any) -> list[str]:
    """The words that the config lists, validated."""
    found: list[str] = []
    for where, words in {"vocabulary.words": config.words, f"vocabulary.file {config.file}": _lines(config.file)}.items():
        if words is None:
            continue
        if not words:
            raise UserError(f"{where}: no words")
        if wrong := [word for word in words if not word or len(word.split()) != 1 or word != word.strip()]:
            raise UserError(f"{where}: not a word: {some([repr(word) for word in wrong])}")
        if twice := [word for word, n in Counter([*found, *words]).items() if n > 1]:
            raise UserError(f"{where}: more than once: {some(twice, LISTED)}")
        if changed := {word: seen for word in words if (seen := normal(tokenizer, word)) != word}:
            pairs = [f"{word} (write {seen})" for word, seen in changed.items()]
            raise UserError(f"{where}: the tokenizer never sees {some(pairs)}")
        if known := [word for word in words if is_known(tokenizer, word)]:
            raise UserError(f"{where}: the vocabulary already has {some(known, LISTED)}")
        found += words
    return found


def _lines(file: str | None) -> list[str] | None:
    """The words of a file, one per line, without blank lines."""
    if file is None:
        return None
    return [line.strip() for line in read_text(file, f"vocabulary.file {file}").split("\n") if line.strip()]


def normal(tokenizer: Any, word: str) -> str:
    """A word after the tokenizer's normaliser, without the spaces that it may put around letters."""
    normaliser = tokenizer.backend_tokenizer.normalizer
    return "".join(normaliser.normalize_str(word).split()) if normaliser else word


def is_known(tokenizer: Any, word: str) -> bool:
    """Whether a word is one token."""
    (pieces,) = pieces_of(tokenizer, [f" {word}"])
    return word in tokenizer.get_vocab() or (len(pieces) == 1 and pieces[0] != tokenizer.unk_token_id)


def pieces_of(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text. A word with a leading space is tokenised as in the middle of a text."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def _sources(new: Any, old: Any) -> Sources:
    ids, old_ids = new.get_vocab(), old.get_vocab()
    size = max(ids.values()) + 1
    if all(ids.get(token) == i for token, i in old_ids.items()):  # words were added
        kept = np.arange(size)
        kept[max(old_ids.values()) + 1 :] = -1
        texts = {i: f" {token}" for token, i in ids.items() if token not in old_ids}
        kept[list(texts)] = -1
        return Sources(kept, _pieces(old, texts), {})
    kept, texts = np.full(size, -1), {}
    spelled: dict[tuple[str, bool], dict[str, int]] = {}
    for token, spelling in _spellings(old):
        spelled.setdefault(spelling, {})[token] = old_ids[token]
    for token, spelling in _spellings(new):
        i, same = ids[token], spelled.get(spelling, {})
        if token in same:
            kept[i] = same[token]
        elif same and "\ufffd" not in spelling[0]:  # the decoder's sign for part of a character
            kept[i] = min(same.values())
        else:
            texts[i] = " " * spelling[1] + spelling[0]
    for role in ROLES:
        id_of = {name: getattr(old, f"{name}_token_id") for name in (role, TWINS.get(role, role))}
        i, kin = getattr(new, f"{role}_token_id"), next((x for x in id_of.values() if x is not None), None)
        if i is not None and kin is not None:
            kept[i] = kin
    roles = {f"{role}_token_id": getattr(new, f"{role}_token_id") for role in ROLES}
    return Sources(kept, _pieces(old, texts), {name: i for name, i in roles.items() if i is not None})


def _pieces(tokenizer: Any, texts: Mapping[int, str]) -> dict[int, list[int]]:
    return dict(zip(texts, pieces_of(tokenizer, list(texts.values())), strict=True))


def _spellings(tokenizer: Any) -> Iterator[tuple[str, tuple[str, bool]]]:
    """(token, (its text, whether it begins a word)) of every token that is not special.

    The tokenizer's own decoder says both, so that no kind of mark (##, Ġ, ▁) need be known: behind another token, a token
    that begins a word is written after a space.
    """
    decoder, special = tokenizer.backend_tokenizer.decoder, set(tokenizer.all_special_tokens)
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    anchor = tokenizer.convert_ids_to_tokens(pieces_of(tokenizer, ["a a"])[0])[-1]
    before = decoder.decode([anchor])
    for token in tokenizer.get_vocab():
        if token in special:
            continue
        if token in added:
            yield token, (token, True)
            continue
        text = decoder.decode([anchor, token])[len(before) :]
        yield token, (text.strip(), text.startswith(" "))
