"""The flags of Hugging Face's scripts become options of jaxft, or are refused by name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import jax
import pytest

from jaxft.core.errors import UserError
from jaxft.hf import __main__ as hf
from jaxft.hf.convert import Limits, choose_max_length, convert, limits_of
from jaxft.hf.flags import COMMON
from jaxft.hf.scripts import ALIASES, GLUE, SCRIPTS
from jaxft.optim.schedules import warmup_steps
from tests.support import read_jsonl

MRPC = "label,sentence1,sentence2\ncalm,the river,old stone\nmerry,a song,the sun\ncalm,the lake,a bridge\nmerry,song,sun\n"


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
    (tmp_path / "train.csv").write_text(MRPC)
    return {"train": str(tmp_path / "train.csv"), "output": str(tmp_path / "out")}


def job(script: str, files: dict[str, str], *flags: str, do: str = "--do_train"):
    base = ["--model_name_or_path", "m", "--output_dir", files["output"], "--train_file", files["train"], do]
    return convert(script, SCRIPTS[script], [*base, *flags])


def test_flags_become_options(files):
    flags = "--learning_rate=3e-5 --num_train_epochs 2 --per_device_train_batch_size 4 --gradient_accumulation_steps 2"
    flags += " --max-seq-length 99 --warmup_ratio 0.2 --weight_decay .1 --max_steps -1 --bf16 --pad_to_max_length False"
    flags += f" --eval_strategy steps --eval_steps 7 --load_best_model_at_end True --validation_file {files['train']}"
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


def test_flags_of_other_trainers_are_translated(files):
    flags = "--fp16 --optim adafactor --tokenizer_name other --config_name m --data_seed 5 --gradient_checkpointing"
    flags += " --lr_scheduler_type cosine_with_restarts --save_only_model"
    made = job("run_glue", files, *flags.split(), "--lr_scheduler_kwargs", '{"num_cycles": 3}')
    c = made.config
    assert (c.train.dtype, c.optim.name, c.vocabulary.tokenizer) == ("bfloat16", "adafactor", "other")
    assert (c.data.order_seed, c.optim.cycles, c.runtime.gradient_checkpointing) == (5, 3, True)
    shown = "\n".join(made.lines)
    assert "--fp16 is train.dtype bfloat16 (bfloat16 has the range of float32" in shown
    assert "--save_only_model: nothing to do" in shown
    polynomial = ["--lr_scheduler_type", "polynomial", "--learning_rate", "1e-4"]
    c = job("run_glue", files, *polynomial, "--lr_scheduler_kwargs", '{"power": 2, "lr_end": 1e-5}').config
    assert (c.optim.power, c.optim.end_factor) == (2.0, pytest.approx(0.1))
    assert job("run_glue", files, "--bf16", "False").config.train.dtype == "float32"
    assert job("run_glue", files, "--adafactor").config.optim.name == "adafactor"
    assert job("run_glue", files, "--tokenizer_name", "m").config.vocabulary.tokenizer is None


def test_downloads_go_where_cache_dir_says(monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", "before")
    with pytest.raises(UserError, match="--model_name_or_path"):
        hf.main(["run_glue", "--cache_dir", "/elsewhere", "--output_dir", "x", "--do_train"])
    assert os.environ["HF_HUB_CACHE"] == "/elsewhere"
    code = "import sys, jaxft.hf.__main__; print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_defaults_are_those_of_the_scripts(files):
    """Hugging Face's: no decay, no warm-up, 3 epochs, batches of 8, a checkpoint every 500 steps, no evaluation."""
    c = job("run_glue", files).config
    assert (c.seed, c.optim.learning_rate, c.optim.weight_decay, c.optim.warmup) == (42, 5e-5, 0.0, 0)
    assert (c.train.epochs, c.train.batch_size, c.data.max_length) == (3.0, 8 * jax.device_count(), 128)
    assert (c.checkpoint.every, c.checkpoint.select, c.eval.every) == (500, "last", "end")
    assert c.checkpoint.keep > 1000  # all, unless --save_total_limit is given
    assert job("run_glue", files, "--save_total_limit", "3").config.checkpoint.keep == 3


@pytest.mark.parametrize(
    ("flags", "warmup", "schedule"),
    [
        ("--warmup_steps 7 --warmup_ratio 0.5", 7, "linear"),  # whatever their order
        ("--warmup_ratio 0.5 --warmup_steps 7", 7, "linear"),
        ("--warmup_steps 0 --warmup_ratio 0.5", 0.5, "linear"),
        ("--warmup_steps 0.25", 0.25, "linear"),  # a share since transformers 5
        ("--warmup_steps 2.5", 2, "linear"),
        ("--lr_scheduler_type constant --warmup_steps 7", 0, "constant"),
        ("--lr_scheduler_type constant_with_warmup --warmup_steps 7", 7, "constant"),
        ("--lr_scheduler_type cosine --warmup_ratio 0.1", 0.1, "cosine"),
    ],
)
def test_warm_up_flags_become_optim_warmup(files, flags, warmup, schedule):
    c = job("run_glue", files, *flags.split()).config
    assert (c.optim.warmup, c.optim.schedule) == (warmup, schedule)


def test_a_warm_up_ratio_of_one_is_the_whole_run(files):
    """A share of 1 is all steps, not one."""
    c = job("run_glue", files, "--warmup_ratio", "1").config
    assert [warmup_steps(c.optim, total) for total in (7, 100, 12_345)] == [7, 100, 12_345]


def test_a_polynomial_schedule_ends_at_the_scripts_rate(files):
    c = job("run_glue", files, "--lr_scheduler_type", "polynomial", "--learning_rate", "1e-4").config
    assert c.optim.end_factor * c.optim.learning_rate == pytest.approx(1e-7)


def test_zero_switches_clipping_and_limits_off(files):
    c = job("run_glue", files, "--max_grad_norm=0", "--max_steps=0", "--save_total_limit=0").config
    assert (c.optim.clip, c.train.max_steps, c.checkpoint.keep > 1000) == (None, None, True)
    assert job("run_glue", files, "--no_pad_to_max_length").config.data.layout == "pack"


def test_the_best_model_has_the_lowest_loss_unless_a_metric_is_named(files):
    flags = ["--eval_strategy", "epoch", "--validation_file", files["train"]]
    made = job("run_glue", files, *flags, "--load_best_model_at_end")
    assert (made.config.eval.metric, made.config.checkpoint.select) == ("loss", "best")
    assert made.config.data.validation == files["train"]  # an evaluation strategy evaluates, even without --do_eval
    task = job("run_glue", files, *flags, "--load_best_model_at_end", "--task_name", "MRPC")
    assert task.config.eval.metric == "loss"
    assert job("run_glue", files, *flags, "--task_name", "mrpc").config.eval.metric == "f1"


def test_samples_are_limited_for_each_split(files):
    flags = ["--validation_file", files["train"], "--test_file", files["train"], "--do_eval", "--do_predict"]
    limits = ["--max_train_samples", "3", "--max_eval_samples", "2"]
    made = job("run_glue", files, *flags, *limits, "--max_predict_samples", "1")
    assert (made.config.data.max_train_examples, made.config.data.max_eval_examples) == (3, 2)
    assert "--data.max_eval_examples=2" in made.evaluate_options
    assert "--data.max_eval_examples=1" in made.predict_options
    assert not [x for x in job("run_glue", files, *flags, *limits).predict_options if "max_eval_examples" in x]


def test_predicting_needs_no_labels(files, tmp_path):
    """Columns are found in the file that is given; the model knows the kind of problem."""
    (tmp_path / "test.csv").write_text("sentence\nthe river\n")
    base = ["--model_name_or_path", "m", "--output_dir", "o", "--test_file", str(tmp_path / "test.csv"), "--do_predict"]
    for script in ("run_glue", "run_ner"):
        made = convert(script, SCRIPTS[script], base)
        assert (made.predict, made.test, made.config.data.text) == (True, str(tmp_path / "test.csv"), "sentence")


@pytest.mark.parametrize(
    ("script", "own", "given", "tokenizer", "positions", "length"),
    [
        ("run_qa", 384, None, 128, 130, 128),
        ("run_glue", 128, None, 64, 512, 64),
        ("run_glue", 128, None, None, 512, 128),
        ("run_mlm", None, None, 512, 512, 512),
        ("run_mlm", None, None, 8192, 8192, 1024),
        ("run_swag", None, None, 8192, 8192, 1024),
        ("run_ner", None, None, 8192, 8192, 8192),
        ("run_ner", None, None, None, 510, 510),
        ("run_ner", None, 100, 64, 512, 64),
        ("run_mlm", None, 100, None, 512, 100),
    ],
)
def test_the_sequence_length_is_the_scripts_within_the_models_limits(script, own, given, tokenizer, positions, length):
    assert SCRIPTS[script].max_length == own
    found, notes = choose_max_length(SCRIPTS[script], given, Limits(tokenizer, positions))
    assert found == length
    assert bool(notes) == (given is not None and given != length)


def test_length_limits_are_read_from_the_model_directory(tiny_model, tmp_path):
    assert limits_of(str(tiny_model), None) == Limits(48, 48)
    bare = shutil.copytree(tiny_model, tmp_path / "bare")
    (bare / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    assert limits_of(str(bare), None) == Limits(None, 48)


def test_run_qa_sets_windows_and_the_null_threshold(files):
    c = job("run_qa", files).config
    assert (c.data.max_length, c.data.stride, c.task.null_threshold) == (384, 128, 0.0)
    c = job("run_qa", files, "--max_seq_length", "64", "--null_score_diff_threshold", "-1").config
    assert (c.data.stride, c.task.null_threshold) == (16, -1.0)  # a stride of 128 does not fit in 64


def test_fractional_labels_are_a_regression(files):
    Path(files["train"]).write_text("label,sentence1\n0.5,the river\n3,a song\n")
    assert job("run_glue", files).config.task.problem == "regression"
    Path(files["train"]).write_text("label,sentence1\n1,the river\n3,a song\n")
    assert job("run_glue", files).config.task.problem == "single_label"
    Path(files["train"]).write_text("label,sentence1\n1e-3,the river\n3,a song\n")
    assert job("run_glue", files).config.task.problem == "regression"


@pytest.mark.parametrize(
    ("words", "trackers"),
    [
        (["wandb", "mlflow", "--seed", "3"], ["wandb", "mlflow"]),
        (["trackio"], ["trackio"]),
        (["tensorboard", "all"], ["tensorboard", "mlflow"]),
        (["none"], []),
        (["[]"], []),
    ],
)
def test_reports_go_to_trackers(files, monkeypatch, words, trackers):
    monkeypatch.setattr("jaxft.hf.convert.installed", lambda: ["tensorboard", "mlflow"])
    flags = ["--run_name", "first", "--project", "poems", "--logging_dir", "logs", "--report_to", *words]
    made = job("run_glue", files, *flags)
    assert (made.config.log.trackers, made.config.log.run_name, made.config.log.project) == (trackers, "first", "poems")
    assert f"--report_to is log.trackers {trackers}" in "\n".join(made.lines)
    assert "--logging_dir: nothing to do, TensorBoard files are in OUTPUT_DIR/tensorboard" in "\n".join(made.lines)


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
        (["--push_to_hub"], ["--push_to_hub is not honoured"]),
        (["--deepspeed", "x.json"], ["--deepspeed is not honoured"]),
        (
            ["--fsdp", "x", "--seed", "a", "--lerning_rate", "1", "--no_cuda"],
            ["--fsdp", "--seed is a", "--lerning_rate", "--no_cuda"],
        ),
        (["--config_name", "other"], ["--config_name is other", "--model_name_or_path"]),
        (["--lr_scheduler_kwargs", "5"], ["--lr_scheduler_kwargs is 5", "JSON object", "num_cycles"]),
        (["--lr_scheduler_kwargs", '{"power": 2}'], ["power belongs to --lr_scheduler_type polynomial"]),
        (["--optim", "adamw_bnb_8bit"], ["--optim is adamw_bnb_8bit", "adafactor"]),
        (["--learning_rate", "fast"], ["--learning_rate is fast: must be a number"]),
        (["--max_steps", "1.5"], ["--max_steps is 1.5: must be a whole number"]),
        (["--do_eval=perhaps"], ["--do_eval is perhaps"]),
        (["--report_to", "wandb", "comet_ml"], ["--report_to is comet_ml", "tensorboard", "wandb", "mlflow"]),
        (["--report_to", "wandb", "none"], ["--report_to is wandb none", "none must be alone"]),
        (["--lr_scheduler_type", "wave"], ["--lr_scheduler_type is wave", "cosine"]),
        (["--seed"], ["--seed needs a value"]),
        (["train.csv"], ["train.csv: expected a flag"]),
        (["--task_name", "mprc"], ["--task_name is mprc", "mrpc"]),
        (["--eval_strategy", "often"], ["--eval_strategy is often"]),
        (["--learning_rate", "-1"], ["optim.learning_rate is -1.0"]),
        (["--warmup_ratio", "1.5"], ["--warmup_ratio is 1.5"]),
        (["--do_eval"], ["--do_eval needs --validation_file"]),
        (["--do_predict"], ["--do_predict needs --test_file"]),
        (["--eval_strategy", "epoch"], ["--eval_strategy needs --validation_file"]),
        (["--load_best_model_at_end"], ["--load_best_model_at_end needs --eval_strategy"]),
        (["--resume_from_checkpoint", "elsewhere/checkpoint-5"], ["--resume_from_checkpoint elsewhere/checkpoint-5"]),
    ],
)
def test_a_bad_flag_is_refused(files, flags, words):
    with pytest.raises(UserError) as error:
        job("run_glue", files, *flags)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("name", [name for name, flag in COMMON.items() if flag.refused and flag.kind is bool])
def test_a_refused_flag_may_be_false(files, name):
    for no in ("False", "f", "n"):
        job("run_glue", files, f"--{name}", no)


def test_a_command_needs_something_to_do(files):
    with pytest.raises(UserError, match="--do_train, --do_eval or --do_predict"):
        job("run_glue", files, do="--overwrite_output_dir")
    with pytest.raises(UserError, match="needs --model_name_or_path"):
        convert("run_glue", SCRIPTS["run_glue"], ["--do_train", "--output_dir", "x"])


def test_every_alias_is_a_script():
    assert set(ALIASES.values()) <= set(SCRIPTS)
    with pytest.raises(UserError, match=r'"run_gleu" is not a script .*run_glue'):
        hf.main(["run_gleu"])
    with pytest.raises(UserError, match=r"run_clm: trains causal language models.*run_glue"):
        hf.main(["run_clm.py", "--do_train"])


@pytest.mark.slow
def test_a_command_trains_evaluates_and_predicts(tiny_model, files, tmp_path, capsys):
    """Its scores are those of its predictions, and those of evaluating the saved model."""
    (tmp_path / "dev.csv").write_text(MRPC)
    flags = ["--model_name_or_path", str(tiny_model), "--output_dir", files["output"], "--max_seq_length", "32"]
    flags += ["--train_file", files["train"], "--validation_file", str(tmp_path / "dev.csv"), "--test_file"]
    flags += [str(tmp_path / "dev.csv"), "--max_steps", "2", "--do_train", "--do_eval", "--do_predict"]
    results = hf.main(["run_glue.py", *flags])
    assert json.loads((Path(files["output"]) / "all_results.json").read_text()) == results
    predicted = [row["label"] for row in read_jsonl(Path(files["output"]) / "predictions.jsonl")]
    gold = [line.split(",")[0] for line in MRPC.splitlines()[1:]]
    assert results["eval_accuracy"] == sum(a == b for a, b in zip(gold, predicted, strict=True)) / 4
    assert "--max_steps is train.max_steps 2" in capsys.readouterr().err
    model = str(Path(files["output"]) / "model")
    again = ["--model_name_or_path", model, "--output_dir", str(tmp_path / "second"), "--max_seq_length", "32", "--do_eval"]
    again += ["--train_file", files["train"], "--validation_file", str(tmp_path / "dev.csv")]
    assert hf.main(["run_glue", *again])["eval_accuracy"] == results["eval_accuracy"]


def test_splits_and_columns_of_a_data_set_are_found_by_their_usual_names(tmp_path):
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
