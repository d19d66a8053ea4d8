"""Scores that cannot be computed are null with a note, and never the best."""

from types import SimpleNamespace

import numpy as np

from jaxft.config import Config, LogConfig
from jaxft.core.phases import Clock
from jaxft.data.batching.collect import Summary
from jaxft.evaluation.evaluator import score
from jaxft.step.multi_step import Calendar
from jaxft.tasks.masked_lm import MaskedLM
from jaxft.tasks.pretraining import Pretraining
from jaxft.training.callbacks import Evaluation
from jaxft.training.display import Display
from jaxft.training.early_stopping import EvaluationState, next_evaluation_state
from jaxft.training.step_metrics import StepMetrics
from jaxft.training.time_left import TimeLeft


def collected(**sums: float) -> Summary:
    return Summary(sums={name: np.float64(x) for name, x in sums.items()})


def test_the_perplexity_of_no_words_is_null():
    data = SimpleNamespace(origin="dev.txt")
    found = score(MaskedLM(), collected(loss=0, weight=0, mlm_loss=0, words=0, mlm_hits=0), data)
    note = "dev.txt has no data to compute loss, perplexity, accuracy from"
    assert found == {"loss": None, "perplexity": None, "accuracy": None, "note": note}
    sums = {"mlm_loss": 0, "words": 0, "mlm_hits": 0, "pair_loss": 1, "pairs": 2, "pair_hits": 1}
    found = score(Pretraining(), collected(loss=1, weight=2, **sums), data)
    assert (found["loss"], found["perplexity"], found["pair_accuracy"]) == (None, None, 0.5)
    found = score(MaskedLM(), collected(loss=2, weight=4, mlm_loss=2, words=4, mlm_hits=1), data)
    assert found == {"loss": 0.5, "perplexity": np.exp(0.5), "accuracy": 0.25}


def test_the_loss_of_a_step_without_weight_is_null():
    """If nothing is masked or all weights are 0, the journal has null, not a perfect 0."""
    sampler = SimpleNamespace(lengths=np.ones(3, int))
    batches = SimpleNamespace(examples=lambda step: np.arange(1), sampler=sampler)
    values = {"loss": [0, 0, 2], "weight": [0, 4, 1], "grad_norm": [0] * 3}
    metrics = StepMetrics(every=1, total_steps=3, steps_per_epoch=3, learning_rate=lambda _: 1.0)
    metrics.send(range(3), {name: np.array(x, np.float32) for name, x in values.items()}, batches)  # type: ignore[arg-type]
    assert [step.row()["loss"] for step in metrics.read()] == [None, 0.0, 2.0]
    assert list(metrics.read()) == []


def test_an_unknown_score_is_never_the_best(capsys):
    progress, best = EvaluationState(), []
    for step, value in enumerate([None, float("nan"), 3.0, None, float("nan"), 2.0], 1):
        progress = next_evaluation_state(Config(), progress, step, value, higher=False)
        best.append(progress.best_step)
    assert best == [None, None, 3, 3, 3, 6]
    assert progress.best_score == 2.0
    scores = {"loss": None, "perplexity": None, "note": "nothing", "table": {"a": 1}}
    evaluation = Evaluation(1, 1.0, scores, "perplexity", best=False)
    assert evaluation.row() == {"step": 1, "epoch": 1.0, "eval/loss": None, "eval/perplexity": None, "eval/note": "nothing"}
    left = TimeLeft(clock := Clock(), Calendar(total=1, epoch=1, evaluate=1, save=1))
    Display(LogConfig(), start_step=0, clock=clock, time_left=left).on_evaluation(evaluation)
    assert capsys.readouterr().err == "step 1: validation perplexity unknown, loss unknown (nothing)\n"
