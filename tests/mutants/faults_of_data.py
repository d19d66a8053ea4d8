"""Faults of data, tasks, metrics, optimizers, plans and flags."""

from tests.mutants.fault import Fault

FAULTS: tuple[Fault, ...] = (
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
    Fault(
        "rows-augmented-alike",
        "jaxft/data/augmentation/draws.py",
        "np.array([0, 0, part, row], np.uint64)",
        "np.array([0, 0, part, 0], np.uint64)",
        "All rows of an epoch are edited with the same random numbers.",
    ),
    Fault(
        "answers-stay-where-they-were",
        "jaxft/data/augmentation/fields.py",
        "return start + new[word] - old[word]",
        "return start",
        "The offsets of answers do not follow the edits before them.",
    ),
    Fault(
        "synonym-begins-an-entity-twice",
        "jaxft/data/augmentation/document.py",
        "[tag, *[inside(tag)] * (len(words) - 1)]",
        "[tag] * len(words)",
        "A word of an entity that becomes several words becomes several entities.",
    ),
    Fault(
        "answers-are-masked",
        "jaxft/tasks/question_answering.py",
        "free[first : last + 1] = False",
        "free[first:last] = False",
        "The last piece of an answer may be masked.",
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
    Fault(
        "answer-begins-at-the-tag-before-it",
        "jaxft/data/cleaning/cleaner.py",
        "if first is None and start < high:",
        "if first is None and start <= high:",
        "An answer in the file's own text begins at the markup before it, which cleaning removed.",
    ),
    Fault(
        "other-label-is-a-duplicate",
        "jaxft/data/quality/repeats.py",
        "split.labels[row] if split.labels is not None else None",
        "None",
        "Of one text with two labels the second is left out as a duplicate, and the first is believed.",
    ),
    Fault(
        "model-directory-cleans-nothing",
        "jaxft/evaluation/inference.py",
        "config = cleaned_as_stored(config, hf_config)",
        "config = replace(config)",
        "A model directory, without its run, gets texts that are not cleaned as in training.",
    ),
)
