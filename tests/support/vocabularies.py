"""Tokenizers of the kinds that families use, with the files of real checkpoints or trained on a few words."""

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

PLAIN = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
ROBERTA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}

_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


def wordpiece(directory: Path, vocabulary: Path, *, lower: bool) -> Path:
    """BERT's: vocab.txt."""
    shutil.copy(next(vocabulary.glob("*vocab.txt")), directory / "vocab.txt")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": lower, "tokenize_chinese_chars": True, **PLAIN}
    return _config(directory, settings)


def byte_level(directory: Path, vocabulary: Path, *, one_file: bool = False) -> Path:
    """RoBERTa's: vocab.json and merges.txt, or the same in one tokenizer.json, as ModernBERT has it."""
    settings = {"tokenizer_class": "RobertaTokenizer", "cls_token": "<s>", "sep_token": "</s>", **ROBERTA}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) if one_file else directory
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(next(vocabulary.glob(f"*{name}")), source / name)
        _config(source, settings)
        if one_file:
            AutoTokenizer.from_pretrained(source).backend_tokenizer.save(str(directory / "tokenizer.json"))
            _config(directory, settings | {"tokenizer_class": "PreTrainedTokenizerFast"})
    return directory


def letters(directory: Path, words: Iterable[str], *, lower: bool = True) -> Path:
    """BERT's kind with a few words and all letters: unknown words split into letters."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *words, ".", ",", "-", *_ALPHABET, *(f"##{letter}" for letter in _ALPHABET)]
    (directory / "vocab.txt").write_text("\n".join(dict.fromkeys(pieces)) + "\n", encoding="utf-8")
    return _config(directory, {"tokenizer_class": "BertTokenizer", "do_lower_case": lower, **PLAIN})


def trained_byte_level(directory: Path, texts: Iterable[str], size: int = 400) -> Path:
    """RoBERTa's kind, trained here: tokenizer.json."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _save_roberta(directory, tokenizer)


def sentencepiece(directory: Path, texts: Iterable[str], size: int = 1200) -> Path:
    """The kind of XLM-R, ALBERT and DeBERTa, trained here: a unigram model over text with visible spaces, tokenizer.json."""
    tokenizer = _visible_spaces(models.Unigram())
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=_SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return _save_roberta(directory, tokenizer)


def unigram(directory: Path, words: Iterable[str]) -> Path:
    """The same kind with a few words and all letters, without training."""
    pieces = [*_SPECIAL, "▁", *(f"▁{word}" for word in words), *_ALPHABET, ".", ","]
    scores = [(piece, 0.0 if piece in _SPECIAL else -5.0) for piece in dict.fromkeys(pieces)]
    return _save_roberta(directory, _visible_spaces(models.Unigram(scores, unk_id=_SPECIAL.index("<unk>"))))


def _visible_spaces(model: models.Unigram) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("``", '"')])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def _save_roberta(directory: Path, tokenizer: Tokenizer) -> Path:
    ends = [("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", ends)
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "cls_token": "<s>", "sep_token": "</s>", **ROBERTA}
    return _config(directory, settings)


def _config(directory: Path, settings: dict) -> Path:
    (directory / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 64} | settings))
    return directory
