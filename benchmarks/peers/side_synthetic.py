"""Whole loops without files: jaxft's own, or a plain PyTorch loop that does what Hugging Face Trainer does.

    python -m benchmarks.peers.side_synthetic {jaxft,keys,torch,compile} STEPS WARM SIZE DTYPE BATCH

Examples have GLUE's lengths and random words. PyTorch: Hugging Face's BERT with sdpa attention, every batch padded to its
longest text, a multiple of 8 (what transformers' collator does), autocast, fused AdamW, clipping; `compile` adds
torch.compile. `keys` is jaxft with dropout of attention by keys.
"""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.peers.windows import Done, Windows
from benchmarks.synthetic import SIZES, examples_of, glue_lengths, run_of

COUNT = 20_000  # examples


def train_jaxft(steps: int, warm: int, size: str, dtype: Any, batch: int, kind: Any) -> None:
    from benchmarks.peers.compiling import listen
    from benchmarks.peers.side_jaxft import train
    from jaxft.config import CheckpointConfig, Config, DataConfig, LogConfig, ModelConfig, TrainConfig
    from jaxft.core import backend

    config = Config(
        model=ModelConfig(attention_dropout_kind=kind),
        data=DataConfig(max_length=128),
        train=TrainConfig(batch_size=batch, dtype=dtype, max_steps=100_000),
        checkpoint=CheckpointConfig(every="end"),
        log=LogConfig(progress=False),
    )
    backend.start(compile_cache=False, distributed="off")
    compiling = listen()
    train(run_of(size, glue_lengths(COUNT), config), steps, warm, compiling)


def torch_batches(size: int) -> Iterator[dict[str, np.ndarray]]:
    """Shuffled examples, padded to the longest of each batch."""
    lengths = glue_lengths(COUNT)
    examples = examples_of(lengths, 30522)
    ids, starts, labels = examples.tokens["input_ids"], examples.offsets, examples.columns["labels"]
    shuffle = np.random.default_rng(0)
    while True:
        order = shuffle.permutation(COUNT)
        for chosen in np.split(order[: COUNT // size * size], COUNT // size):
            width = -(-int(lengths[chosen].max()) // 8) * 8
            batch = {name: np.zeros((size, width), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
            for row, i in enumerate(chosen):
                batch["input_ids"][row, : lengths[i]] = ids[starts[i] : starts[i + 1]]
                batch["attention_mask"][row, : lengths[i]] = 1
            yield batch | {"labels": labels[chosen].astype(np.int64)}


def train_torch(steps: int, warm: int, size: str, dtype: str, batch: int, *, compiled: bool) -> None:
    import torch
    import transformers

    on_gpu = torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    model: Any = transformers.BertForSequenceClassification(
        transformers.BertConfig(**SIZES[size].config(), attn_implementation="sdpa")
    )
    model = model.to(device).train()
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-5, fused=True)
    forward = torch.compile(model, dynamic=True) if compiled else model
    wait, peak = (torch.cuda.synchronize, torch.cuda.max_memory_allocated) if on_gpu else (lambda: None, None)
    windows = Windows(steps, warm, wait, peak)
    try:
        for arrays in torch_batches(batch):
            windows.tick()
            mask = arrays["attention_mask"]
            windows.count(examples=len(mask), tokens=int(mask.sum()), positions=mask.size)
            tensors = {name: torch.from_numpy(x) for name, x in arrays.items()}
            if on_gpu:
                tensors = {name: x.pin_memory().to(device, non_blocking=True) for name, x in tensors.items()}
            with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = forward(**tensors).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    except Done:
        return


def main() -> None:
    side, steps, warm, size, dtype, batch = sys.argv[1:]
    shared = (int(steps), int(warm), size, dtype, int(batch))
    if side in ("torch", "compile"):
        train_torch(*shared, compiled=side == "compile")
    else:
        train_jaxft(*shared, "keys" if side == "keys" else "probabilities")


if __name__ == "__main__":
    main()
