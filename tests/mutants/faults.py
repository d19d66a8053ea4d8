"""Small faults, such as a refactoring could introduce and a review could miss, to measure how many of them tests catch."""

from typing import NamedTuple


class Fault(NamedTuple):
    """One wrong change of the package.

    Attributes:
      name: unique.
      file: path below the project root.
      old: text that occurs exactly once in the file.
      new: its replacement.
      breaks: the consequence for a user.
    """

    name: str
    file: str
    old: str
    new: str
    breaks: str


FAULTS: tuple[Fault, ...] = (
    # The step and the run
    Fault(
        "small-class-weights-not-divided",
        "jaxft/step/train_step.py",
        "scale = 1.0 / jnp.where(weight > 0, weight, 1.0)",
        "scale = 1.0 / jnp.maximum(weight, 1.0)",
        "Where the weights of a batch add up to less than 1 (class weights), loss and gradients come out too small.",
    ),
    Fault(
        "micro-batches-share-dropout-key",
        "jaxft/step/train_step.py",
        "key = jax.random.fold_in(step_key, number)",
        "key = jax.random.fold_in(step_key, 0)",
        "All micro-batches of a step drop at the same places.",
    ),
    Fault(
        "new-stage-forgets-moments",
        "jaxft/step/stages.py",
        "previous = dict(jax.tree_util.tree_leaves_with_path(state))",
        "previous = dict(jax.tree_util.tree_leaves_with_path(replace(state, opt_state=())))",
        "When more parameters begin to be trained, those that were trained before lose their moments.",
    ),
    Fault(
        "resume-at-stage-boundary-skips-stage",
        "jaxft/training/loop.py",
        "for s in self.run.plan.stages[1:] if s >= start]",
        "for s in self.run.plan.stages[1:] if s > start]",
        "A run that is resumed exactly where a stage begins never unfreezes the parameters of that stage.",
    ),
    Fault(
        "lower-is-better-ignored",
        "jaxft/training/early_stopping.py",
        "(score - best) * (1 if higher else -1)",
        "score - best",
        "With a metric such as loss or perplexity the worst checkpoint is kept and exported as the best.",
    ),
    Fault(
        "average-not-in-checkpoint",
        "jaxft/training/checkpoint.py",
        'return arrays | ({"average": state.average} if state.average else {})',
        "return arrays",
        "After a resume, or of the best step, the moving average is that of the start: nothing learnt is evaluated.",
    ),
    Fault(
        "resume-drops-row-of-its-step",
        "jaxft/training/journal.py",
        'if row.get("step", 0) <= step and',
        'if row.get("step", 0) < step and',
        "A resumed run loses the rows of metrics.jsonl of the step it resumes at, its evaluation among them.",
    ),
    Fault(
        "resume-with-other-checkpoint-options",
        "jaxft/run/rundir.py",
        '"checkpoint.keep"',
        '"checkpoint."',
        "A run is resumed without a word although checkpoint.select or checkpoint.every is another than at its beginning.",
    ),
    Fault(
        "call-runs-across-a-stage",
        "jaxft/step/multi_step.py",
        ", *(s for s in self.stages if s > done)])",
        "])",
        "With runtime.steps_per_execution a call may step over the beginning of a stage, which then never opens.",
    ),
    Fault(
        "train-step-not-donated",
        "jaxft/step/compilation.py",
        "donate_argnums=0, out_shardings=out_shardings",
        "out_shardings=out_shardings",
        "Parameters and moments lie in memory twice during each step.",
    ),
    Fault(
        "mean-of-step-means-as-loss",
        "jaxft/evaluation/evaluator.py",
        '{"loss": loss / weight if weight else None, **task.scores(summary, data)}',
        '{**task.scores(summary, data), "loss": loss / weight if weight else None}',
        "The evaluation loss of pretraining is a mean of the means of steps, and so changes with eval.batch_size.",
    ),
    Fault(
        "problem-of-model-ignored",
        "jaxft/evaluation/inference.py",
        "replace(options, name=kind, problem=problem)",
        "replace(options, name=kind)",
        "The directory of a multi-label or regression model is evaluated and predicts as if a text had one label.",
    ),
    Fault(
        "pooled-features-of-random-pooler",
        "jaxft/evaluation/inference.py",
        "(not model.encoder.pooler or fresh)",
        "not model.encoder.pooler",
        "--features pooled of a checkpoint without a pooler gives vectors of random weights instead of an error.",
    ),
    Fault(
        "teacher-with-other-labels-accepted",
        "jaxft/step/distillation.py",
        "len(model.labels) == len(student.labels) and are_generic(model.labels)",
        "len(model.labels) == len(student.labels) or are_generic(model.labels)",
        "A teacher that has as many labels in another order is taken, and teaches the wrong ones.",
    ),
    Fault(
        "r-drop-passes-share-key",
        "jaxft/step/r_drop.py",
        "jax.random.fold_in(key, OfMicroBatch.SECOND_PASS)",
        "key",
        "Both passes of R-Drop have the same masks, so that it costs two passes and does nothing.",
    ),
    Fault(
        "l2-sp-holds-heads",
        "jaxft/step/regularization.py",
        'if c.l2_sp and path[0] != "heads":',
        "if c.l2_sp:",
        "L2-SP also pulls the new head towards its random start.",
    ),
    Fault(
        "temperature-not-squared",
        "jaxft/losses.py",
        "loss = -(target * logs).sum(-1) * temperature**2",
        "loss = -(target * logs).sum(-1) * temperature",
        "At temperature T the soft loss of distillation weighs only 1 / T of what distill.alpha says.",
    ),
    Fault(
        "moments-not-split",
        "jaxft/parallel/sharding.py",
        "for start in range(len(path)):",
        "for start in range(1, len(path)):",
        "With mesh.fsdp every device holds the whole moments: the memory that was to be saved is not.",
    ),
    Fault(
        "cut-without-offset-of-stack",
        "jaxft/core/tree.py",
        "{start + i for i in range(1, len(values))",
        "{i for i in range(1, len(values))",
        "In a model whose first layer is a stack of its own (ModernBERT, DeBERTa), a plan cuts one layer too low.",
    ),
    Fault(
        "rate-of-one-accepted",
        "jaxft/config/limits.py",
        "lambda x: 0 <= x < 1)",
        "lambda x: 0 <= x <= 1)",
        "A dropout rate of 1 is accepted, and a model is trained on nothing but zeros.",
    ),
    Fault(
        "interrupt-exits-with-success",
        "jaxft/config/cli.py",
        "sys.exit(130)",
        "sys.exit(0)",
        "A run that was stopped by Ctrl-C tells the script that called it that it has finished.",
    ),
    Fault(
        "evaluation-loss-smoothed",
        "jaxft/run/loss.py",
        "task.loss(outputs, batch, train=key is not None), outputs",
        "task.loss(outputs, batch, train=True), outputs",
        "The evaluation loss has label smoothing, class weights and focal exponent of training.",
    ),
    Fault(
        "new-pooler-not-saved-with-adapter",
        "jaxft/run/adapter_targets.py",
        "if setting.trainable} | drawn | new",
        "if setting.trainable} | drawn",
        "An adapter directory lacks the frozen parameters that its base did not have, such as a newly drawn pooler.",
    ),
    Fault(
        "unused-words-under-adam-decay",
        "jaxft/step/unused_embeddings.py",
        "optimizers = _DECAY_BY_FACTOR if decay else _DECAY_BY_FACTOR + _UNCHANGED_WITHOUT_DECAY",
        "optimizers = _DECAY_BY_FACTOR + _UNCHANGED_WITHOUT_DECAY",
        "With adam, rmsprop or adagrad and weight decay, words that the training data lacks get wrong embeddings.",
    ),
    Fault(
        "kept-prefix-without-neftune",
        "jaxft/training/frozen_features.py",
        "if run.task.masks_inputs or config.regularization.neftune:",
        "if run.task.masks_inputs:",
        "Where the lowest layers are frozen and kept, regularization.neftune has no effect.",
    ),
    Fault(
        "forward-flops-of-one-micro-batch",
        "jaxft/preflight/costs.py",
        "hlo.matmul_flops(evaluation.as_text()) * run.sampler.micro_batches",
        "hlo.matmul_flops(evaluation.as_text())",
        "With K micro-batches jaxft.plan says that a step costs K times as many forward passes as it does.",
    ),
    Fault(
        "rates-begin-a-step-late",
        "jaxft/preflight/learning_rates.py",
        "np.where(steps < own.unfreeze, 0.0, factor)",
        "np.where(steps <= own.unfreeze, 0.0, factor)",
        "The plan's table and plot of learning rates show 0 at the first step at which parameters are trained.",
    ),
    Fault(
        "collectives-of-a-loop-counted-once",
        "jaxft/preflight/hlo.py",
        "size[kind] += x.executions * _transferred_bytes(x)",
        "size[kind] += _transferred_bytes(x)",
        "Bytes that devices exchange in a loop count for one turn, so predicted steps are too fast.",
    ),
    # The commands
    Fault(
        "export-always-of-last-step",
        "jaxft/export.py",
        "if step != steps[-1]:",
        "if step == steps[-1]:",
        "jaxft.export writes the last checkpoint's parameters under the name of the best or of any other step.",
    ),
    Fault(
        "prediction-drops-empty-rows",
        "jaxft/predict.py",
        'empty = config.data.empty_texts if "--data.empty_texts" in given else "null"',
        "empty = config.data.empty_texts",
        "Of a run with data.empty_texts drop, predictions leave out empty rows and no longer stand beside their input.",
    ),
    Fault(
        "evaluates-the-test-file-instead",
        "jaxft/evaluate.py",
        'split = "validation" if config.data.validation else "test"',
        'split = "test" if config.data.test else "validation"',
        "jaxft.evaluate with --data.validation scores the test file of the run instead of the file that was given.",
    ),
    Fault(
        "waste-of-one-layout-for-all",
        "jaxft/plan.py",
        "sampler = train_sampler(examples, config, run.mesh)",
        "sampler = train_sampler(examples, run.config, run.mesh)",
        "jaxft.plan gives the padding of the run's own layout as that of every layout.",
    ),
    Fault(
        "cased-vocabulary-lowered",
        "jaxft/vocabulary.py",
        '"do_lower_case": not args.cased',
        '"do_lower_case": True',
        "The tokenizer of a cased vocabulary makes all text lower case, so that its words with capitals are never used.",
    ),
    Fault(
        "average-not-evaluated",
        "jaxft/run/state.py",
        "frozen.combined(state.evaluated)",
        "frozen.combined(state.params)",
        "With regularization.ema evaluation and export take the parameters themselves, not their average.",
    ),
    Fault(
        "slurm-tasks-not-joined",
        "jaxft/core/distributed.py",
        'os.environ.get("JAX_COORDINATOR_ADDRESS") or hosts or tasks > 1)',
        'os.environ.get("JAX_COORDINATOR_ADDRESS") or hosts)',
        "The tasks of a SLURM job do not find each other: each trains alone, in the same directory.",
    ),
    # Models
    Fault(
        "convolution-mixes-packed-examples",
        "jaxft/models/encoder/disentangled.py",
        "jnp.roll(segment_ids, -shift, axis=1) == segment_ids",
        "jnp.roll(segment_ids, -shift, axis=1) > 0",
        "DeBERTa's convolution reads the neighbouring example of a packed row.",
    ),
    Fault(
        "window-one-token-short",
        "jaxft/models/encoder/fused_attention.py",
        "position[None, :]) <= window)[None]",
        "position[None, :]) < window)[None]",
        "ModernBERT's local layers do not see the outermost token of their window, which shows in long texts only.",
    ),
    Fault(
        "attention-gradient-ignores-dropout",
        "jaxft/models/encoder/attention.py",
        "jnp.where(signed > 0, dp, 0)",
        "dp",
        "Queries and keys get gradients through probabilities that dropout has dropped.",
    ),
    Fault(
        "layers-share-dropout-key",
        "jaxft/models/encoder/encoder.py",
        "number * len(sets) + i if sets else number)",
        "number * len(sets) + i if sets else i)",
        "All layers of an encoder drop at the same places.",
    ),
    Fault(
        "dora-norm-with-gradient",
        "jaxft/models/encoder/layers.py",
        "jnp.linalg.norm(jax.lax.stop_gradient(kernel + lora.scale * dense(a, b)), axis=0)",
        "jnp.linalg.norm(kernel + lora.scale * dense(a, b), axis=0)",
        "DoRA trains by other gradients than the paper's and PEFT's.",
    ),
    Fault(
        "tied-tensors-not-written",
        "jaxft/models/load_save.py",
        "model.origin.copies.items() if of in flat}",
        "model.origin.copies.items() if copy in flat}",
        "A saved masked-LM model lacks the decoder's tensors that the checkpoint had beside the tied words.",
    ),
    Fault(
        "merges-not-copied",
        "jaxft/core/model_source.py",
        '"merges.txt", ',
        "",
        "The model directory of a run from a RoBERTa without tokenizer.json has a tokenizer that cannot be read.",
    ),
    Fault(
        "lora-scale-counted-twice",
        "jaxft/models/peft/read_adapter.py",
        "scales[module_name(naming, module)] / kind.scale if kind.scale else 1.0",
        "scales[module_name(naming, module)] if kind.scale else 1.0",
        "An adapter that is loaded changes its base by alpha / rank too much or too little, unless that is 1.",
    ),
    Fault(
        "untied-decoder-taken-as-tied",
        "jaxft/models/families/family.py",
        "tied = bool(_value(part.tied, read))",
        "tied = bool(part.tied)",
        "A masked-LM checkpoint with tie_word_embeddings false scores words by its embeddings; its decoder is dropped.",
    ),
    Fault(
        "distilbert-drops-after-attention",
        "jaxft/models/families/distilbert.py",
        'DropoutSite.OUTPUT: ("dropout",),',
        'DropoutSite.OUTPUT: ("dropout",), DropoutSite.ATTENTION_OUTPUT: ("dropout",),',
        "DistilBERT is trained with a dropout after attention that Hugging Face's does not have.",
    ),
    # Data
    Fault(
        "same-order-in-every-epoch",
        "jaxft/data/batching/batch_sampler.py",
        "host_generator(seed, epoch)",
        "host_generator(seed, 0)",
        "Every epoch has the same batches in the same order.",
    ),
    Fault(
        "positions-of-the-row",
        "jaxft/data/batching/batch_sampler.py",
        'batch["position_ids"] = spread(inside)',
        'batch["position_ids"] = spread(inside + np.repeat(begin.ravel(), flat))',
        "Positions of packed examples count from the beginning of the row, not of the example.",
    ),
    Fault(
        "no-word-replaced",
        "jaxft/tasks/masking.py",
        "share < round((MASKED + REPLACED) * _ONE)",
        "share < round(REPLACED * _ONE)",
        "Of the words to predict none is replaced by another one: 80 % are masked and 20 % left.",
    ),
    Fault(
        "feed-swallows-errors",
        "jaxft/data/batching/prefetch.py",
        "return end if item is end else make(item)",
        """try:
            return end if item is end else make(item)
        except Exception:
            return end""",
        "An error while batches are made ends training or evaluation early, as if there were no more data.",
    ),
    Fault(
        "cache-blind-to-tokenizer",
        "jaxft/data/tokens/cache.py",
        "digest.update(path.read_bytes())",
        "digest.update(path.name.encode())",
        "With another tokenizer of the same file names, old token ids are read from the cache.",
    ),
    Fault(
        "answer-at-end-of-window-lost",
        "jaxft/data/tokens/questions.py",
        "characters[-1, 1] < end - accents:",
        "characters[-1, 1] <= end - accents:",
        "An answer that ends with the last character of its window is trained on as no answer.",
    ),
    # Tasks and metrics
    Fault(
        "numeric-labels-sorted-as-text",
        "jaxft/data/reading/label_spelling.py",
        "return sorted(names, key=Decimal)",
        "return names",
        "Labels that are numbers get ids in the order 0, 1, 10, 11, 2.",
    ),
    Fault(
        "null-score-of-best-window",
        "jaxft/tasks/question_answering.py",
        'windows["null_scores"].min()',
        'windows["null_scores"].max()',
        "A question whose context has several windows gets no answer as soon as one of them lacks it.",
    ),
    Fault(
        "gold-and-predicted-tags-swapped",
        "jaxft/tasks/token_classification.py",
        "entity_scores(self._iob2_tags(gold, split), self._iob2_tags(predicted, split))",
        "entity_scores(self._iob2_tags(predicted, split), self._iob2_tags(gold, split))",
        "Precision and recall of entities are each other's, and support counts predictions.",
    ),
    Fault(
        "macro-f1-over-absent-labels",
        "jaxft/tasks/metrics/classification.py",
        '{"zero_division": 0.0, "labels": present}',
        '{"zero_division": 0.0}',
        "Labels that neither gold nor predictions have count as 0 in macro F1.",
    ),
    # Optimizer and plan
    Fault(
        "clip-norm-without-remainder",
        "jaxft/optim/optimizer.py",
        "return rest + jax.lax.fori_loop",
        "return jax.lax.fori_loop",
        "On one CPU device the gradient norm leaves out the last numbers of every large tensor.",
    ),
    Fault(
        "lamb-trusts-whole-stacks",
        "jaxft/optim/named_optimizers.py",
        "jnp.square(x).sum(layer_axes(path, x), keepdims=True)",
        "jnp.square(x).sum(keepdims=True)",
        "LAMB has one trust ratio for all layers of a stack instead of one for each.",
    ),
    Fault(
        "relative-bias-decays",
        "jaxft/param_plan/table.py",
        r'NO_DECAY = r"bias|\.scale$"',
        r'NO_DECAY = r"\.bias$|\.scale$"',
        "Weight decay falls on MPNet's table of relative biases and on the decoder's biases of new words.",
    ),
    Fault(
        "bias-correction-from-first-stage",
        "jaxft/optim/optimizer.py",
        "if len(plan.stages) == 1:",
        "if plan.stages:",
        "What is unfrozen later has its bias correction counted from the first step of the run.",
    ),
    # Hugging Face's flags
    Fault(
        "accumulation-not-in-batch-size",
        "jaxft/hf/convert.py",
        'flags.get("per_device_train_batch_size", 8) * devices * parts',
        'flags.get("per_device_train_batch_size", 8) * devices',
        "--gradient_accumulation_steps N cuts a batch into N parts instead of making it N times as large.",
    ),
    # Files
    Fault(
        "row-of-the-next-file",
        "jaxft/data/reading/row_numbers.py",
        "if number <= count:",
        "if number < count:",
        "An error in the last row of a file names row 0 of the next one.",
    ),
    Fault(
        "touching-entities-merged",
        "jaxft/data/formats/tags.py",
        'begins = letter in "BSU" or before in "OESLU" or kind != kind_before',
        'begins = before in "OESLU" or kind != kind_before',
        "Two entities of one kind that stand side by side become one.",
    ),
    Fault(
        "stored-axes-kept",
        "jaxft/models/weights/merge.py",
        "return array.T if name in self.transposed else array",
        "return array.T if name in self.transposed and array.shape[0] != array.shape[1] else array",
        "Square kernels of PyTorch files are used without being transposed.",
    ),
)
