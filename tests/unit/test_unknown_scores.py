"""Numbers that cannot be known are null with a note, and never the best."""

from functools import partial
from types import SimpleNamespace

import numpy as np

from jaxft.config import Config, LogConfig
from jaxft.data.batching.collect import Collected
from jaxft.evaluation.evaluator import score
from jaxft.tasks.fill_mask import FillMask
from jaxft.tasks.pretraining import Pretraining
from jaxft.training.checkpoint import Progress
from jaxft.training.journal import Meter
from jaxft.training.loop import Trainer


def collected(**sums: float) -> Collected:
    return Collected(sums={name: np.float64(x) for name, x in sums.items()})


def test_the_perplexity_of_nothing():
    data = SimpleNamespace(origin="dev.txt")
    found = score(FillMask(), collected(loss=0, weight=0, mlm_loss=0, words=0, mlm_hits=0), data)
    note = "nothing to compute loss, perplexity, accuracy of in dev.txt"
    assert found == {"loss": None, "perplexity": None, "accuracy": None, "note": note}
    sums = {"mlm_loss": 0, "words": 0, "mlm_hits": 0, "pair_loss": 1, "pairs": 2, "pair_hits": 1}
    found = score(Pretraining(), collected(loss=1, weight=2, **sums), data)
    assert (found["loss"], found["perplexity"], found["pair_accuracy"]) == (None, None, 0.5)
    found = score(FillMask(), collected(loss=2, weight=4, mlm_loss=2, words=4, mlm_hits=1), data)
    assert found == {"loss": 0.5, "perplexity": np.exp(0.5), "accuracy": 0.25}


def evaluated(scores: list[float | None]) -> tuple[list[bool], Progress, list[str], list[dict]]:
    """What a run makes of evaluations: which were better, its progress, what it said and wrote."""
    said: list[str] = []
    rows: list[dict] = []
    later = iter(scores)
    run = SimpleNamespace(metric="perplexity", steps_per_epoch=1, task=SimpleNamespace(metrics={"perplexity": False}))

    def found(_: str) -> dict:
        value = next(later)
        return {"loss": value, "perplexity": value} | ({"note": "nothing"} if value is None else {})

    trainer = SimpleNamespace(
        run=run,
        config=Config(),
        progress=Progress(),
        journal=SimpleNamespace(say=said.append, write=rows.append),
        scores=found,
        _set_plateau=lambda: None,
    )
    better = [Trainer._evaluate(trainer, step) for step in range(1, len(scores) + 1)]  # type: ignore[arg-type]
    return better, trainer.progress, said, rows


def test_the_loss_of_a_step_without_weight():
    """Where nothing is masked, or all weights are 0, a row of the journal has null and not a perfect 0."""
    rows: list[dict] = []
    shown: list[float | None] = []
    trainer = SimpleNamespace(
        run=SimpleNamespace(total_steps=3, steps_per_epoch=3),
        config=Config(log=LogConfig(every=1)),
        factor=lambda _: 1.0,
        progress=Progress(),
        journal=SimpleNamespace(write=rows.append, progress=lambda *_, loss, **__: shown.append(loss)),
    )
    trainer._log_step = partial(Trainer._log_step, trainer)  # type: ignore[arg-type]
    metrics = {
        name: np.array(x, np.float32) for name, x in {"loss": [0, 0, 2], "weight": [0, 4, 1], "grad_norm": [0] * 3}.items()
    }
    Trainer._log(trainer, range(3), metrics, Meter())  # type: ignore[arg-type]
    assert [row["loss"] for row in rows] == shown == [None, 0.0, 2.0]


def test_what_is_unknown_is_never_the_best():
    better, progress, said, rows = evaluated([None, 3.0, None, 2.0])
    assert better == [False, True, False, True]
    assert (progress.best_step, progress.best_score) == (4, 2.0)
    assert said[0] == "step 1: validation perplexity unknown, loss unknown (nothing)"
    assert rows[0] == {"step": 1, "epoch": 1.0, "eval/loss": None, "eval/perplexity": None, "eval/note": "nothing"}
    assert evaluated([None, None])[1].best_step is None
