"""Hugging Face Trainer's loop on a recipe, window by window.

python -m benchmarks.peers.side_trainer {float32,bfloat16} {eager,compile} STEPS WARM RECIPE [options]
"""

import sys
import tempfile
from typing import Any

import torch

from benchmarks.hf import settings
from benchmarks.hf_trainer import prepare, trainer_class
from benchmarks.peers.windows import Done, Windows
from jaxft.config import cli


def main() -> None:
    import transformers

    dtype, mode, steps, warm, *argv = sys.argv[1:]
    config = cli.load(argv)
    run, peer = prepare(config)
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    windows = Windows(int(steps), int(warm), wait)

    class Watched(trainer_class(settings.head_multiplier(config))):
        def training_step(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
            windows.tick()
            mask = inputs["attention_mask"]
            windows.count(examples=len(mask), tokens=int(mask.sum()), positions=mask.numel())
            return super().training_step(model, inputs, *args, **kwargs)

    with tempfile.TemporaryDirectory() as folder:
        arguments = settings.arguments(run, folder, bf16=dtype == "bfloat16", torch_compile=mode == "compile")
        trainer = Watched(model=peer.model, args=arguments, train_dataset=peer.data["train"], data_collator=peer.collator)
        trainer.remove_callback(transformers.PrinterCallback)
        try:
            trainer.train()
        except Done:
            return


if __name__ == "__main__":
    main()
