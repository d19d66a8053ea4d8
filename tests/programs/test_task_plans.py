"""Adapters in every kind of task: gradients do not depend on the layout, and only adapters and the head have any.

Text classification is in test_lora.py, fill-mask in runs/test_adapters_words.py.
"""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jaxft.run.setup import make_run
from tests.support import choices, questions, tagged, tiny
from tests.support.lora import randomised, trainable
from tests.support.steps import assert_same, gradients, rearranged


def token_classification(model: Path, folder: Path, output: Path, /, **sections: Any) -> Any:
    tagged.write_files(folder)
    return tagged.configure(model, folder, output, **sections, train={"batch_size": 6})


def question_answering(model: Path, folder: Path, output: Path, /, **sections: Any) -> Any:
    for seed, name in enumerate(("train", "dev")):
        questions.write(folder / f"{name}.json", questions.make(88, seed=seed, unanswerable=0.3, longest=34))
    return questions.configure(model, folder, output, **sections)


def multiple_choice(model: Path, folder: Path, output: Path, /, **sections: Any) -> Any:
    rng = random.Random(1)
    for name in ("train", "dev"):
        rows = [choices.row(rng) for _ in range(60)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return choices.configure(model, folder, output, **sections, train={"batch_size": 9})


@pytest.mark.parametrize("configure", [token_classification, question_answering, multiple_choice])
def test_lora_in_a_task(configure: Callable[..., Any], tmp_path):
    model = tiny.write_model(tmp_path / "model", initializer_range=0.2, num_hidden_layers=1)
    sections = {
        "model": {"path": str(model), **tiny.NO_DROPOUT},
        "data": {"validation": None},
        "plan": {"preset": "lora", "lora": {"rank": 2, "targets": "all"}},
    }
    run = make_run(configure(model, tmp_path, tmp_path / "run", **sections))
    run = replace(run, params=randomised(run.params))
    right = gradients(rearranged(run, "pad"))
    assert all(set(grads) == trainable(run.params) for _, grads in right)
    assert_same(rearranged(run, micro_batches=2, data=4, fsdp=2), right)
