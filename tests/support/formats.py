"""Every kind of file that jaxft reads: a small valid one, and a function that reads it as the start of a run does."""

import bz2
import csv
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import jaxft
from jaxft.config import Config, cli
from jaxft.core import checksums, lock, tree
from jaxft.data.tokens.tokenizer import load_tokenizer
from jaxft.models import families
from jaxft.models.encoder.adapters import Lora
from jaxft.models.model import Model, make_model
from jaxft.models.peft import adapter_config
from jaxft.models.weights import tensor_files
from jaxft.run import record, rundir
from jaxft.tasks import task_class
from jaxft.training import integrity, journal
from tests.support import tiny, zoo
from tests.support.damage import shard, to_msgpack
from tests.support.mutations import damaged, damaged_json

ROWS = [{"text": f"the river runs {i} 'old', \"stone\" é", "label": tiny.LABELS[i % 3]} for i in range(12)]


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
      make: writes files into an empty folder and returns the one to damage.
      read: takes that file and returns what a run reads from it.
      damage: makes a damaged copy of its bytes.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    damage: Callable[..., bytes] = damaged


@cache
def _tokenizer(folder: Path) -> Any:
    tiny.write_tokenizer(folder)
    return load_tokenizer(folder)


def _task(path: Path, name: str = "text-classification", *, labelled: bool = True, **data: Any) -> Any:
    """Read the rows of a file, learn their labels and tokenise them."""
    own = Config()
    options = {"train": str(path), "max_length": 32, "cache": False, **data}
    config = replace(own, task=replace(own.task, name=name), data=replace(own.data, **options))
    kind = task_class(config)
    rows = kind.read(config, "train", labelled=labelled)
    task = kind.learn(config, tiny.CONFIG, rows, str(path)) if labelled else kind.restore(config, tiny.CONFIG)
    tokenizer = _tokenizer(path.parent)
    task = task.with_tokenizer(tokenizer, path.parent)
    split = task.encode(rows, tokenizer, path.parent, config, str(path), labelled=labelled)
    return task.labels, split.examples.offsets


def _bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _csv(delimiter: str) -> bytes:
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, ["text", "label"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def _arrow(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pylist(ROWS)
        if name.endswith("parquet"):
            pq.write_table(table, folder / name)
        else:
            with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        return folder / name

    return make


def _saved(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import datasets

        datasets.Dataset.from_list(ROWS).save_to_disk(str(folder / "saved"))
        return folder / "saved" / name

    return make


def _zst(content: bytes) -> bytes:
    import pyarrow as pa

    return pa.compress(content, "zstd", asbytes=True)


SQUAD = {
    "version": "2.0",
    "data": [
        {
            "title": "rivers",
            "paragraphs": [
                {
                    "context": "the old river runs under the stone bridge .",
                    "qas": [
                        {"id": f"q{i}", "question": "under what ?", "answers": [{"text": "stone", "answer_start": 29}]}
                        for i in range(3)
                    ],
                }
            ],
        }
    ],
}
CONLL = b"-DOCSTART- -X- O\n\n" + b"".join(b"the DT O\nriver NN B-LOC\nruns VB O\n\n" for _ in range(4))
YAML = {
    "model": {"path": "m"},
    "data": {"train": "train.csv", "text": "sentence", "max_length": 64},
    "optim": {"learning_rate": 5e-5, "warmup": 0.1},
    "plan": {"preset": "lora", "rules": [{"pattern": "encoder.layer.0", "trainable": True}], "lora": {"targets": ["query"]}},
    "train": {"epochs": 3, "batch_size": 16},
}
PEFT = {
    "peft_type": "LORA",
    "base_model_name_or_path": "base",
    "task_type": "SEQ_CLS",
    "r": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.1,
    "target_modules": ["query", "value"],
    "alpha_pattern": {"layer.0.attention.self.query": 4},
    "use_rslora": False,
}


def _classifier(folder: Path) -> Path:
    return tiny.write_model(folder / "model", labels=tiny.LABELS)


def _model(name: str) -> Callable[[Path], Path]:
    return lambda folder: _classifier(folder) / name


def _index(folder: Path) -> Path:
    directory = _classifier(folder)
    shard(directory)
    return directory / "model.safetensors.index.json"


def _shard(folder: Path) -> Path:
    return _index(folder).with_name("model-00001-of-00002.safetensors")


def _msgpack(folder: Path) -> Path:
    return to_msgpack(_classifier(folder))


def _load(path: Path) -> Any:
    """Load a model with zeros in place of its initialisers, whose compilation takes a second."""

    def zeros(self: Model, names: Any, seed: int) -> dict[str, np.ndarray]:
        shapes = tree.unstack(self.abstract()) if names else {}
        return {name: np.zeros(shapes[name].shape, np.float32) for name in names}

    with mock.patch.object(Model, "initialised", zeros):
        return jaxft.load(str(path.parent))[0].report


def _tensors(path: Path) -> Any:
    stored, _ = tensor_files.open_weights(path.parent)
    return {name: x.read().sum() for name, x in stored.items()}


def _tokens(path: Path) -> Any:
    return load_tokenizer(path.parent)(["the old river runs over [MASK]"], truncation=True, max_length=16)["input_ids"]


def _tokenizer_json(folder: Path) -> Path:
    tiny.write_tokenizer(folder)
    load_tokenizer(folder).backend_tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").unlink()
    return folder / "tokenizer.json"


def _vocab(folder: Path) -> Path:
    tiny.write_tokenizer(folder)
    return folder / "vocab.txt"


def _settings(path: Path) -> Any:
    settings = adapter_config.read_adapter_config(path.parent)
    modules = [f"bert.encoder.layer.{i}.attention.self.{part}" for i in range(3) for part in ("query", "key", "value")]
    scales = settings.scales(dict.fromkeys(modules, 4)) if isinstance(settings.kind, Lora) else {}
    return settings.expected(modules), scales


def _checkpoint(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for part in ("progress", "state"):
            (folder / "checkpoints/3" / part).mkdir(parents=True)
        (folder / "checkpoints/3/progress/metadata").write_text(json.dumps({"best_step": 2, "checksums": True}))
        (folder / "checkpoints/3/state/data").write_bytes(bytes(range(100)))
        checksums.write_manifest(folder / "checkpoints/3", frozen="abc")
        return folder / "checkpoints/3" / name

    return make


def _intact(path: Path) -> Any:
    directory = path.parents[2] if path.name == checksums.MANIFEST else path.parents[3]
    return integrity.verify(directory, 3), integrity.best_step(directory, 3)


def _run_json(folder: Path) -> Path:
    used = np.arange(0, 30, 2)
    (folder / rundir.RECORD).write_text(record.Record(tuple(tiny.LABELS), {"a": 1}, True, 10, 30, used).text())
    return folder / rundir.RECORD


def _rewind(path: Path) -> Any:
    journal.rewind(path, 3)
    return path.read_bytes()


COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
METRICS = "".join(json.dumps({"step": i, "loss": 1 / (i + 1), "eval/accuracy": None}) + "\n" for i in range(8)).encode()
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
SPANS = "".join(json.dumps({"text": r["text"].split(), "label": ["B-A", *["O"] * 6]}) + "\n" for r in ROWS).encode()
_squad = partial(_task, name="question-answering")
_tags = partial(_task, name="token-classification")


def _family(name: str) -> Format:
    """config.json of a family, read without weights."""

    def read(path: Path) -> Any:
        config = tensor_files.read_model_config(path.parent)
        kind = families.kind_of(families.family_of(config, str(path)), config)
        model = make_model(config, kind or "feature-extraction", str(path))
        return len(tree.all_names(model.abstract())) if model.encoder.config.num_layers < 20 else None

    return Format(_bytes("config.json", json.dumps(zoo.fixed(name, "text-classification")).encode()), read, damaged_json)


FORMATS = {
    "csv": Format(_bytes("rows.csv", _csv(",")), _task),
    "tsv": Format(_bytes("rows.tsv", _csv("\t")), _task),
    "json": Format(_bytes("rows.json", json.dumps(ROWS).encode()), _task, damaged_json),
    "json columns": Format(_bytes("rows.json", json.dumps(COLUMNS).encode()), _task, damaged_json),
    "jsonl": Format(_bytes("rows.jsonl", JSONL), _task),
    "txt": Format(_bytes("rows.txt", b"\n".join(row["text"].encode() for row in ROWS)), partial(_task, labelled=False)),
    "parquet": Format(_arrow("rows.parquet"), _task),
    "arrow": Format(_arrow("rows.arrow"), _task),
    "gz": Format(_bytes("rows.csv.gz", gzip.compress(_csv(","))), _task),
    "bz2": Format(_bytes("rows.jsonl.bz2", bz2.compress(JSONL)), _task),
    "zst": Format(_bytes("rows.csv.zst", _zst(_csv(","))), _task),
    "saved state": Format(_saved("state.json"), lambda path: _task(path.parent), damaged_json),
    "saved info": Format(_saved("dataset_info.json"), lambda path: _task(path.parent), damaged_json),
    "saved rows": Format(_saved("data-00000-of-00001.arrow"), lambda path: _task(path.parent)),
    "squad": Format(_bytes("squad.json", json.dumps(SQUAD).encode()), _squad, damaged_json),
    "conll": Format(_bytes("rows.conll", CONLL), _tags),
    "tag lists": Format(_bytes("rows.jsonl", SPANS), _tags),
    "yaml": Format(_bytes("config.yaml", json.dumps(YAML).encode()), lambda path: cli.load([str(path)]), damaged_json),
    "yaml blocks": Format(_bytes("config.yaml", cli.dump(Config()).encode()), lambda path: cli.load([str(path)])),
    "config.json": Format(_model("config.json"), _load, damaged_json),
    "tokenizer.json": Format(_tokenizer_json, _tokens, damaged_json),
    "vocab.txt": Format(_vocab, _tokens),
    "safetensors": Format(_model("model.safetensors"), _load),
    "safetensors index": Format(_index, _tensors, damaged_json),
    "safetensors shard": Format(_shard, _tensors),
    "msgpack": Format(_msgpack, _tensors),
    "adapter_config.json": Format(_bytes("adapter_config.json", json.dumps(PEFT).encode()), _settings, damaged_json),
    "checksums": Format(_checkpoint("checksums.json"), _intact, damaged_json),
    "progress": Format(_checkpoint("progress/metadata"), _intact, damaged_json),
    "run.json": Format(_run_json, lambda path: record.read(path.parent), damaged_json),
    "lock": Format(_bytes("lock", json.dumps(lock.identity() | {"token": "x"}).encode()), lock._read, damaged_json),
    "metrics.jsonl": Format(_bytes("metrics.jsonl", METRICS), _rewind),
}
FORMATS |= {f"config.json of {name}": _family(name) for name in families.FAMILIES}
