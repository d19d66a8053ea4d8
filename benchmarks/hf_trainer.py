"""Train a jaxft recipe with Hugging Face Trainer (PyTorch), for comparison.

Weights, rows, labels, number of steps, batch size, learning rates, warm-up, schedule, weight decay, clipping, dropout and
the choice of the best evaluation are the same. Tokenisation, padding (dynamic, as Trainer recommends), model, loss and
decoding are those of Hugging Face's example scripts. Metrics are computed by the same functions. The command prints one
JSON line.

    python -m benchmarks.hf_trainer configs/rte.yaml --seed 0 [--same] [--section.field value ...]

The new head and the order of examples are PyTorch's; with --same they are jaxft's, and only the arithmetic differs.
"""

import json
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jaxft.config import Config, cli
from jaxft.core.errors import UserError

SAME = "--same"


def main(argv: list[str]) -> dict[str, Any]:
    """Run the command and return what it prints."""
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__)
        return {}
    config = cli.load([x for x in argv if x != SAME])
    result = {"recipe": argv[0]} | train(config, same=SAME in argv)
    print(json.dumps(result))
    return result


def train(config: Config, *, same: bool = False) -> dict[str, Any]:
    """Train with the settings of a config, and compute the scores as jaxft does at the end of a run."""
    import transformers

    from benchmarks.hf import settings

    with tempfile.TemporaryDirectory() as folder:
        run, peer = prepare(config, Path(folder, "start") if same else None)
        steps = steps_of(run, len(peer.data["train"])) if same else None
        trainer = trainer_class(settings.head_multiplier(config), steps)(
            model=peer.model,
            args=settings.arguments(run, folder),
            train_dataset=peer.data["train"],
            eval_dataset=peer.data.get("validation"),
            data_collator=peer.collator,
            compute_metrics=partial(peer.score, "validation"),
            preprocess_logits_for_metrics=peer.reduce,
            callbacks=[evaluate_last(run.total_steps)] if settings.evaluate_every(run) else [],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start - trainer.evaluating
        scores = {}
        for split, prefix in {"validation": "eval", "test": "test"}.items():
            if split in peer.data:
                trainer.compute_metrics = partial(peer.score, split)
                found = trainer.evaluate(peer.data[split], metric_key_prefix=prefix)
                names = {name: f"{prefix}_{name}" for name in ("loss", *run.task.metrics)}
                scores |= {f"{prefix}/{name}": found[key] for name, key in names.items() if key in found}
    metric = f"{'test' if 'test' in peer.data else 'eval'}/{run.metric}"
    return {
        "seed": config.seed,
        "metric": metric,
        "score": scores[metric],
        "steps": trainer.state.global_step,
        "train_seconds": round(seconds, 1),
        "scores": scores,
    }


def prepare(config: Config, start: Path | None = None) -> tuple[Any, Any]:
    """(jaxft's run, Trainer's side), with transformers silenced and seeded.

    Args:
      config: of the run.
      start: a directory for jaxft's initial model, from which the peer then starts; None gives it a head of its own.
    """
    import transformers

    from benchmarks.hf import settings
    from jaxft import save
    from jaxft.run.setup import make_run

    settings.check(config)
    run = make_run(config)
    if start:
        save(run.model, run.params, start)
        run = replace(run, config=replace(config, model=replace(config.model, path=str(start))))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    transformers.set_seed(config.seed)
    return run, make_peer(run)


def make_peer(run: Any) -> Any:
    """The peer of the run's task.

    Raises:
      UserError: for a task that has none.
    """
    from benchmarks.hf import answers, masks, tags, texts

    makers = {
        "fill-mask": masks.make_peer,
        "question-answering": answers.make_peer,
        "text-classification": texts.make_peer,
        "token-classification": tags.make_peer,
    }
    if run.task.kind not in makers:
        raise UserError(f"task.name is {run.task.kind}: the peer has {', '.join(makers)}")
    return makers[run.task.kind](run)


def steps_of(run: Any, examples: int) -> list[list[int]]:
    """The examples of every step of jaxft's run.

    Raises:
      UserError: if the peer has a different number of examples because its script truncates long texts differently.
    """
    if examples != len(run.sampler.lengths):
        raise UserError(f"{SAME}: the peer has {examples} examples, jaxft {len(run.sampler.lengths)}")
    epochs = -(-run.total_steps // run.steps_per_epoch)
    plans = (run.sampler.epoch_batches(epoch) for epoch in range(epochs))
    return [plan.examples(step).tolist() for plan in plans for step in range(run.steps_per_epoch)]


def trainer_class(head_multiplier: float, steps: list[list[int]] | None = None) -> Any:
    """A Trainer with separate parameter groups for the head, which records the time spent in evaluation.

    Args:
      head_multiplier: the multiplier of the head's learning rate.
      steps: the examples of every step; None means a random order.
    """
    import torch
    import transformers

    class Trainer(transformers.Trainer):
        evaluating = 0.0

        def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
            optimizer = super().create_optimizer(*args, **kwargs)
            model: Any = self.model
            encoder = {id(p) for p in model.base_model.parameters()}
            for group in list(optimizer.param_groups):
                head = [p for p in group["params"] if id(p) not in encoder]
                group["params"] = [p for p in group["params"] if id(p) in encoder]
                optimizer.add_param_group({**group, "params": head, "lr": self.args.learning_rate * head_multiplier})
            return optimizer

        def get_train_dataloader(self) -> Any:
            if steps is None:
                return super().get_train_dataloader()
            data: Any = self.train_dataset
            loader = torch.utils.data.DataLoader(data, batch_sampler=steps, collate_fn=self.data_collator)
            return self.accelerator.prepare(loader)

        def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
            start = time.perf_counter()
            try:
                return super().evaluate(*args, **kwargs)
            finally:
                self.evaluating += time.perf_counter() - start

    return Trainer


def evaluate_last(steps: int) -> Any:
    """A callback that also evaluates after the last step, as jaxft does."""
    import transformers

    class EvaluateLast(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == steps:
                control.should_evaluate = control.should_save = True

    return EvaluateLast()


if __name__ == "__main__":
    cli.run_main(main)
