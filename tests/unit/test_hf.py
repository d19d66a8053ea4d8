"""The flags of Hugging Face's scripts become options of jaxft, or are refused by name."""

import json
from pathlib import Path

import datasets
import jax
import pytest

from jaxft.errors import UserError
from jaxft.hf import __main__ as hf
from jaxft.hf.convert import convert
from jaxft.hf.flags import COMMON
from jaxft.hf.scripts import ALIASES, GLUE, SCRIPTS

MRPC = "label,sentence1,sentence2\ncalm,the river,old stone\nmerry,a song,the sun\ncalm,the lake,a bridge\nmerry,song,sun\n"


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
    (tmp_path / "train.csv").write_text(MRPC)
    return {"train": str(tmp_path / "train.csv"), "output": str(tmp_path / "out")}


def job(script: str, files: dict[str, str], *flags: str, do: str = "--do_train"):
    base = ["--model_name_or_path", "m", "--output_dir", files["output"], "--train_file", files["train"], do]
    return convert(script, SCRIPTS[script], [*base, *flags])


def test_flags_are_options(files):
    flags = "--learning_rate=3e-5 --num_train_epochs 2 --per_device_train_batch_size 4 --gradient_accumulation_steps 2"
    flags += " --max-seq-length 99 --warmup_ratio 0.2 --weight_decay .1 --max_steps -1 --bf16 --pad_to_max_length False"
    flags += " --eval_strategy steps --eval_steps 7 --load_best_model_at_end True"
    flags += " --metric_for_best_model eval_matthews_correlation"
    made = job("run_glue", files, *flags.split())
    c = made.config
    assert (made.train, made.evaluate, made.predict) == (True, False, False)
    assert (c.optim.learning_rate, c.train.epochs, c.optim.warmup, c.optim.weight_decay) == (3e-5, 2.0, 0.2, 0.1)
    assert (c.train.batch_size, c.train.micro_batches) == (4 * 2 * jax.device_count(), 2)
    assert (c.data.max_length, c.data.layout, c.train.dtype, c.train.max_steps) == (99, "pack", "bfloat16", None)
    assert (c.eval.every, c.eval.metric, c.checkpoint.select) == (7, "mcc", "best")
    assert (c.data.text, c.data.text_pair, c.data.label) == ("sentence1", "sentence2", "label")
    shown = "\n".join(made.lines)
    assert "--learning_rate is optim.learning_rate 3e-05" in shown
    assert "--max_seq_length is data.max_length 99" in shown


def test_the_scripts_own_defaults(files):
    """Hugging Face's: no decay, no warm-up, 3 epochs, batches of 8, a checkpoint every 500 steps, no evaluation."""
    c = job("run_glue", files).config
    assert (c.seed, c.optim.learning_rate, c.optim.weight_decay, c.optim.warmup) == (42, 5e-5, 0.0, 0)
    assert (c.train.epochs, c.train.batch_size, c.data.max_length) == (3.0, 8 * jax.device_count(), 128)
    assert (c.checkpoint.every, c.checkpoint.select, c.eval.every) == (500, "last", "end")


def test_fractions_are_a_regression(files):
    Path(files["train"]).write_text("label,sentence1\n0.5,the river\n3,a song\n")
    assert job("run_glue", files).config.task.problem == "regression"
    Path(files["train"]).write_text("label,sentence1\n1,the river\n3,a song\n")
    assert job("run_glue", files).config.task.problem == "single_label"


@pytest.mark.parametrize("name", GLUE)
def test_glue_tasks_come_from_the_hub(files, name):
    flags = ["--model_name_or_path", "m", "--output_dir", files["output"], "--task_name", name, "--do_train", "--do_eval"]
    data = convert("run_glue", SCRIPTS["run_glue"], flags).config.data
    assert (data.dataset, data.dataset_config, data.train) == ("nyu-mll/glue", name, "train")
    assert (data.text, *([data.text_pair] if data.text_pair else [])) == GLUE[name][0]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--lerning_rate", "1"], ["run_glue has no flag --lerning_rate", "learning_rate"]),
        (["--fp16"], ["--fp16: not honoured", "--bf16"]),
        (["--push_to_hub"], ["--push_to_hub: not honoured"]),
        (["--deepspeed", "x.json"], ["--deepspeed: not honoured"]),
        (["--learning_rate", "fast"], ["--learning_rate is fast: must be a number"]),
        (["--max_steps", "1.5"], ["--max_steps is 1.5: must be a whole number"]),
        (["--do_eval=perhaps"], ["--do_eval is perhaps"]),
        (["--report_to", "wandb"], ["--report_to is wandb", "tensorboard"]),
        (["--lr_scheduler_type", "wave"], ["--lr_scheduler_type is wave", "cosine"]),
        (["--seed"], ["--seed needs a value"]),
        (["train.csv"], ["train.csv: expected a flag"]),
        (["--task_name", "mprc"], ["--task_name is mprc", "mrpc"]),
        (["--eval_strategy", "often"], ["--eval_strategy is often"]),
        (["--learning_rate", "-1"], ["optim.learning_rate is -1.0"]),
    ],
)
def test_flags_that_are_refused(files, flags, words):
    with pytest.raises(UserError) as error:
        job("run_glue", files, *flags)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("name", [name for name, flag in COMMON.items() if flag.refused and flag.kind is bool])
def test_a_refused_flag_may_be_false(files, name):
    job("run_glue", files, f"--{name}", "False")


def test_something_must_be_done(files):
    with pytest.raises(UserError, match="--do_train, --do_eval or --do_predict"):
        job("run_glue", files, do="--overwrite_output_dir")
    with pytest.raises(UserError, match="needs --model_name_or_path"):
        convert("run_glue", SCRIPTS["run_glue"], ["--do_train", "--output_dir", "x"])


def test_every_alias_is_a_script():
    assert set(ALIASES.values()) <= set(SCRIPTS)
    with pytest.raises(UserError, match=r'"run_gleu" is no script .*run_glue'):
        hf.main(["run_gleu"])


@pytest.mark.slow
def test_a_whole_command(tiny_model, files, tmp_path, capsys):
    """Trains, evaluates, predicts; the numbers are those that evaluation of what was written gives."""
    (tmp_path / "dev.csv").write_text(MRPC)
    flags = ["--model_name_or_path", str(tiny_model), "--output_dir", files["output"], "--max_seq_length", "32"]
    flags += ["--train_file", files["train"], "--validation_file", str(tmp_path / "dev.csv"), "--test_file"]
    flags += [str(tmp_path / "dev.csv"), "--max_steps", "2", "--do_train", "--do_eval", "--do_predict"]
    results = hf.main(["run_glue.py", *flags])
    assert json.loads((Path(files["output"]) / "all_results.json").read_text()) == results
    predicted = [json.loads(x)["label"] for x in (Path(files["output"]) / "predictions.jsonl").read_text().splitlines()]
    gold = [line.split(",")[0] for line in MRPC.splitlines()[1:]]
    assert results["eval_accuracy"] == sum(a == b for a, b in zip(gold, predicted, strict=True)) / 4
    assert "--max_steps is train.max_steps 2" in capsys.readouterr().err
    model = str(Path(files["output"]) / "model")
    again = ["--model_name_or_path", model, "--output_dir", str(tmp_path / "second"), "--max_seq_length", "32", "--do_eval"]
    again += ["--train_file", files["train"], "--validation_file", str(tmp_path / "dev.csv")]
    assert hf.main(["run_glue", *again])["eval_accuracy"] == results["eval_accuracy"]


def test_splits_of_a_data_set_have_their_usual_names(tmp_path):
    rows = datasets.Dataset.from_dict({"tokens": [["a", "river"]], "ner_tags": [["O", "B-X"]]})
    datasets.DatasetDict({"train": rows, "validation": rows}).save_to_disk(str(tmp_path / "data"))
    flags = f"--model_name_or_path x --output_dir y --dataset_name {tmp_path / 'data'} --do_train --do_eval".split()
    data = convert("run_ner", SCRIPTS["run_ner"], flags).config.data
    assert (data.train, data.validation, data.text, data.label) == ("train", "validation", "tokens", "ner_tags")
    with pytest.raises(UserError, match="--train_file, --validation_file or --test_file, or --dataset_name"):
        convert("run_ner", SCRIPTS["run_ner"], [*flags[:4], "--do_eval"])


@pytest.mark.slow
@pytest.mark.parametrize("script", ["run_glue", "run_qa"])
def test_a_model_is_evaluated_without_training(tiny_model, tmp_path, script):
    rows = {
        "run_glue": 'sentence,label\nthe old river,calm\n"stone, bridge",angry\n',
        "run_qa": "id,question,context,answers,answer_start\n1,the river,the old river runs,old,4\n",
    }
    data = tmp_path / "data.csv"
    data.write_text(rows[script])
    common = f"--validation_file {data} --test_file {data} --max_seq_length 32 --do_eval --do_predict".split()
    train = ["--train_file", str(data), "--do_train", "--max_steps", "1"]
    first = hf.main([script, "--model_name_or_path", str(tiny_model), "--output_dir", str(tmp_path / "a"), *train, *common])
    model = ["--model_name_or_path", str(tmp_path / "a" / "model"), "--output_dir", str(tmp_path / "b")]
    assert hf.main([script, *model, *common]) == pytest.approx({k: v for k, v in first.items() if not k.startswith("test")})
    assert (tmp_path / "b" / "predictions.jsonl").read_text() == (tmp_path / "a" / "predictions.jsonl").read_text()
