"""jaxft vocabulary --input FILE... --output DIR --size N: train a WordPiece tokenizer and write config.json for a new BERT.

To train a model with random weights from it: jaxft train --model.path DIR --model.from_scratch true ...
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from jaxft.config import DataConfig, cli
from jaxft.core import backend
from jaxft.core.errors import UserError, naming
from jaxft.core.paths import check_url
from jaxft.core.upload import written_directory

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Fields of config.json: (default, help). The defaults are those of BERT-mini (Turc et al. 2019, arXiv:1908.08962).
SIZES = {
    "hidden_size": (256, "features of hidden states"),
    "num_hidden_layers": (4, "number of layers"),
    "num_attention_heads": (4, "number of attention heads of a layer"),
    "intermediate_size": (1024, "features between the two dense layers of a feed-forward sublayer"),
    "max_position_embeddings": (512, "longest sequence in tokens"),
}
MOST_CHARACTERS = 1000  # as in BERT; rarer characters become [UNK]


def main(argv: list[str]) -> None:
    """Train the tokenizer and write vocab.txt, tokenizer_config.json and config.json."""
    parser = cli.Parser(prog="jaxft vocabulary", description=__doc__)
    kinds = "txt, csv, tsv, json, jsonl, parquet or arrow"
    parser.add_argument("--input", required=True, nargs="+", metavar="FILE", help=f"texts: {kinds}")
    parser.add_argument("--output", required=True, metavar="DIR", help="directory to write")
    size_help = "size of the vocabulary: words and pieces, special tokens included"
    parser.add_argument("--size", required=True, type=int, metavar="N", help=size_help)
    parser.add_argument("--cased", action="store_true", help="keep case and accents (default: drop them)")
    parser.add_argument("--min_frequency", type=int, default=2, help="minimum number of occurrences of a piece (default: 2)")
    parser.add_argument("--text", default="text", help="text column (default: text)")
    for name, (default, about) in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"config.json: {about} (default: {default})")
    args = parser.parse_args(argv)
    check_url("--output", args.output)
    sizes = {name: getattr(args, name) for name in SIZES}
    for name, value in {"size": args.size, "min_frequency": args.min_frequency, **sizes}.items():
        if value < 1:
            raise UserError(f"--{name} is {value}: must be at least 1")
    backend.start(distributed="off")
    from jaxft.models.model import make_model
    from jaxft.models.weights.tensor_files import write_directory

    read = texts(args.input, args.text)
    words = train(read, args.size, cased=args.cased, min_frequency=args.min_frequency)
    if len(words) > args.size:
        raise UserError(f"--size is {args.size}, but there are {len(words)} special tokens and single characters: raise it")
    config = {"model_type": "bert", "vocab_size": len(words), **sizes, "type_vocab_size": 2, "pad_token_id": 0}
    make_model(config, "fill-mask", args.output)  # refuse inconsistent sizes before writing anything
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": not args.cased}
    settings["model_max_length"] = args.max_position_embeddings
    files: dict[str, str] = {
        "vocab.txt": "\n".join(words),
        "tokenizer_config.json": json.dumps(settings, indent=2),
        "config.json": json.dumps(config, indent=2),
    }
    write = partial(Path.write_text, encoding="utf-8", newline="\n")
    with written_directory(args.output) as directory:
        write_directory(directory, {name: partial(write, data=f"{text}\n") for name, text in files.items()})
    print(f"wrote {len(words):,} words and pieces, and a config.json for a BERT of {sizes['num_hidden_layers']} layers")


def texts(files: list[str], column: str) -> Callable[[], Iterator[str]]:
    """A function that yields the texts of files, one after another."""
    from jaxft.data.tokens import corpus

    with naming("--input", instead_of="data.train"), naming("--text", instead_of="data.text"):
        corpora = [corpus.read(DataConfig(train=file, text=column, empty_texts="drop"), "train") for file in files]
    return lambda: (text for rows in corpora for text in corpus.lines(rows, column, by_line=False))


def train(read: Callable[[], Iterator[str]], size: int, *, cased: bool, min_frequency: int = 2) -> list[str]:
    """Train a WordPiece vocabulary (Schuster and Nakajima 2012; Devlin et al. 2019); returns it in the order of ids.

    Args:
      read: yields the texts of the corpus; called twice.
      size: the number of words and pieces; all single characters are in it even if that makes more.
      cased: whether to keep case and accents.
      min_frequency: smallest number of occurrences of a piece.
    """
    characters = [piece for piece in _trained(read(), 0, SPECIAL, cased, 1) if piece.startswith("##")]
    # tokenizers numbers the characters inside words in the order of a hash map and breaks ties by number, so no two runs
    # give the same vocabulary (huggingface/tokenizers#1794). Listing the characters as special tokens fixes their numbers.
    return _trained(read(), size, [*SPECIAL, *sorted(characters)], cased, min_frequency)


def _trained(corpus: Iterator[str], size: int, first: list[str], cased: bool, min_frequency: int) -> list[str]:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=first,
        limit_alphabet=MOST_CHARACTERS,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


if __name__ == "__main__":
    cli.run_main(main)
