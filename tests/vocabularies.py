"""Tokenizers of the kinds that families use, in the files that real checkpoints carry."""

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

PLAIN = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
ROBERTA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}


def wordpiece(directory: Path, vocabulary: Path, *, lower: bool) -> Path:
    """BERT's: vocab.txt."""
    shutil.copy(next(vocabulary.glob("*vocab.txt")), directory / "vocab.txt")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": lower, "tokenize_chinese_chars": True, **PLAIN}
    return _config(directory, settings)


def byte_level(directory: Path, vocabulary: Path, *, one_file: bool = False) -> Path:
    """RoBERTa's vocab.json and merges.txt, or the same as ModernBERT has it: tokenizer.json."""
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


def sentencepiece(directory: Path, texts: Iterable[str], size: int = 1200) -> Path:
    """The kind of XLM-R, ALBERT and DeBERTa, trained here: a unigram model over text with visible spaces, tokenizer.json."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("``", '"')])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    ends = [("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", ends)
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "cls_token": "<s>", "sep_token": "</s>", **ROBERTA}
    return _config(directory, settings)


def _config(directory: Path, settings: dict) -> Path:
    (directory / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 64} | settings))
    return directory
