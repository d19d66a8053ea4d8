"""The dataclasses of a run: every option, its unit and its default.

This file is the schema; `cli.load` is the one place that parses it, and `checks` holds its limits. The text under a field
is its `--help`.
"""

from dataclasses import dataclass, field
from typing import Literal

from jaxft.config.optim import OptimConfig, RegularizationConfig, Schedule  # noqa: F401 (part of the schema)
from jaxft.config.plan import Duration, PlanConfig, RuleConfig  # noqa: F401 (part of the schema)


@dataclass(frozen=True)
class ModelConfig:
    """The encoder to start from."""

    path: str | None = None
    """Hub id, directory, or package:NAME/SUBDIR for weights that an installed Python package carries."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    dropout: float | None = None
    """Dropout rate of hidden states, 0 to 1; null keeps the checkpoint's."""
    attention_dropout: float | None = None
    """Dropout rate of attention probabilities, 0 to 1; null keeps the checkpoint's."""
    attention_dropout_kind: Literal["probabilities", "keys"] = "probabilities"
    """What attention's dropout drops: every probability by itself, as BERT does, or a key for all queries of an example's
    head at once. The latter changes the noise, not its mean; it needs few random numbers, and accelerators' fused attention
    can do it."""
    classifier_dropout: float | None = None
    """Dropout rate before the head, 0 to 1; null keeps the checkpoint's."""
    num_layers: int | None = None
    """Keep only the first so many layers of the checkpoint; null keeps all."""
    from_scratch: bool = False
    """Start from random weights: of the checkpoint only config.json and the tokenizer are read."""


@dataclass(frozen=True)
class VocabularyConfig:
    """New words for the model, or a whole vocabulary in place of its own. The tokenizer is saved with the model."""

    words: list[str] | None = None
    """Words to add."""
    file: str | None = None
    """File of words to add, one a line."""
    most_frequent: int | None = None
    """Add so many words: the most frequent of the training texts that split into `min_pieces` pieces or more."""
    min_pieces: int = 3
    """Fewest pieces of a word that most_frequent adds."""
    tokenizer: str | None = None
    """Directory or hub id of a tokenizer that replaces the model's; words that both have keep their rows."""
    initialise: Literal["mean", "gaussian", "random"] = "mean"
    """Rows of new words: mean of the rows of their pieces; drawn from a Gaussian with mean and covariance of the table
    (Hewitt 2021); or drawn as the model's family initialises its own."""


TaskName = Literal[
    "fill-mask",
    "multiple-choice",
    "pretraining",
    "question-answering",
    "text-classification",
    "token-classification",
]


@dataclass(frozen=True)
class TaskConfig:
    """What is learnt."""

    name: TaskName | str = "text-classification"
    """Task name, as on the Hugging Face hub, or module:Class of your own, a subclass of jaxft.tasks.task.Task."""
    loss: str | None = None
    """A loss of your own in place of the task's: module:function, (outputs, batch, train) -> (sum, weight)."""
    labels: list[str] | None = None
    """Label names in the order of their ids; null takes those that the training data declares (ClassLabel), or
    its labels, sorted."""
    problem: Literal["single_label", "multi_label", "regression"] = "single_label"
    """Text classification: one label a text, any number of labels, or numbers (then data.label may name several columns)."""
    class_weights: Literal["balanced"] | list[float] | None = None
    """Text and token classification: weight of each label in the training loss, in their order (multi-label: of its
    positive examples); balanced weighs rare labels up."""
    focal_gamma: float = 0.0
    """Text classification: exponent of the focal loss (training); 0 is plain cross-entropy."""
    threshold: Literal["tune"] | float = 0.5
    """Multi-label: probability from which a label is given; tune takes the best on the validation data."""
    tag_scheme: Literal["auto", "iob1", "iob2", "bioes", "bilou", "bmes", "none"] = "auto"
    """Token classification: how tags mark entities (bioes is also called IOBES); auto reads any of the schemes; none scores
    single tags (part of speech)."""
    label_pieces: Literal["first", "all"] = "first"
    """Token classification: which pieces of a word are trained on."""
    unanswerable: bool = False
    """Question answering: whether questions may have no answer (SQuAD 2)."""
    null_threshold: Literal["tune"] | float = "tune"
    """Question answering: how far the score of no answer must be above the best answer's; tune takes the best F1 on the
    validation data."""
    n_best: int = 20
    """Question answering: starts and ends looked at in a window, and answers kept of a question. Masked LM: words that
    prediction gives a mask."""
    max_answer_length: int = 30
    """Question answering: longest answer in tokens."""
    misplaced_answers: Literal["error", "drop"] = "error"
    """Question answering: what to do with answers that are not at their offset; drop does not train on them, and
    evaluation, which needs no offsets, still counts them as right."""
    mask_rate: float = 0.15
    """Masked LM: share of the tokens to predict, between 0 and 1; of these 80 % are masked, 10 % replaced, 10 % left."""
    whole_words: bool = False
    """Masked LM: mask all pieces of a word together."""
    sentence_order: bool | None = None
    """Pretraining: sentence order (true) or next sentence (false) as the second task; null does as the model's family."""


@dataclass(frozen=True)
class DataConfig:
    """Where the examples are and how they become batches."""

    dataset: str | None = None
    """Hub id or saved Arrow directory; then train, validation and test name its splits instead of files."""
    dataset_config: str | None = None
    """Configuration name of a hub data set."""
    train: str | list[str] | None = None
    """Training file: csv, tsv, json, jsonl or txt (also .gz, .bz2 or .zst), parquet or arrow; a pattern such as
    data/*.csv, or a list of files; or a directory with a folder of .txt files for each label."""
    validation: str | list[str] | None = None
    """Validation file; null splits off `validation_share` of the training examples."""
    test: str | list[str] | None = None
    """Test file, evaluated once after training with the final parameters."""
    validation_share: float = 0.0
    """Share of the training examples, 0 to 1, set aside for validation when no validation file is given."""
    split_seed: int = 0
    """Seed of that split alone, so that runs with another `seed` are validated on the same examples."""
    stratify: bool = False
    """Text classification: whether that split has each label in its share."""
    max_train_examples: int | None = None
    """Use only the first so many training examples (before the validation split); null uses all."""
    max_eval_examples: int | None = None
    """Use only the first so many validation and test examples, which evaluate and predict honour, too (predict only where it
    is given there); null uses all."""
    text: str = "text"
    """Column of the text, or of the words."""
    text_pair: str | None = None
    """Column of a second text, for pairs."""
    label: str | list[str] = "label"
    """Column of the label, or of the tags: a name or number, a list of labels, or text that `label_separator` cuts; several
    columns for several numbers, or with 0 and 1 for several labels."""
    sentence_column: str | list[str] | None = None
    """Token classification: column that says which sentence a word is of, in tables with a word a row; or several that do
    so together, such as document and sentence. Known names (Sentence #, sentence_id ...) are found."""
    split_words: Literal["punctuation", "spaces"] | None = None
    """Token classification: where texts are cut into words: at white space, or also around punctuation marks and symbols;
    null does as in training, and there punctuation. Texts beside a text of tags are cut at white space."""
    unknown_labels: Literal["error", "drop"] = "error"
    """What to do with labels that training does not have: drop leaves out their examples (multi-label: only the labels) and
    says how many."""
    label_separator: str | None = None
    """Multi-label: what stands between the labels of a text column, such as a comma; null reads lists."""
    id: str = "id"
    """Question answering: column of the question's id; without it questions are numbered. Rows of one id, question and
    context with an answer each are one question."""
    question: str = "question"
    """Question answering: column of the question."""
    context: str = "context"
    """Question answering: column of the text that holds the answer."""
    answers: str = "answers"
    """Question answering: column of the answers, {text: [...], answer_start: [...]}, or of the text of one answer."""
    answer_start: str = "answer_start"
    """Question answering: column that says at which character of the context a single answer starts: a number, or
    (start, end)."""
    no_answer: str | None = None
    """Question answering: text that stands for no answer, and is cut off where a context ends in it (in SubjQA
    ANSWERNOTFOUND); an empty answer always is none."""
    choices: list[str] | None = None
    """Multiple choice: columns of the choices, or one column that is a list."""
    stride: int | None = None
    """Tokens that neighbouring windows of a long text share, where texts are cut into windows; null takes a quarter of
    max_length."""
    columns: list[str] | None = None
    """Column names of a csv or tsv file that has no header line, or of a CoNLL file."""
    quotes: Literal["auto", "standard", "none"] = "auto"
    """Quoting in csv and tsv files; auto means standard for csv and none for tsv."""
    max_length: int = 128
    """Longest sequence in tokens, special tokens included."""
    truncation: bool = True
    """Cut longer texts; false makes a longer text an error."""
    documents: Literal["join", "lines"] = "join"
    """Masked LM: join makes one stream of all texts and cuts it into examples of max_length; lines cuts every text (every
    line of a txt file) on its own."""
    empty_texts: Literal["error", "drop", "null"] = "error"
    """What to do with rows whose text is empty or no text: error names the first, drop leaves them out. jaxft.predict has
    its own default, null: a prediction of nulls in their place, as for a question that leaves its context no room."""
    layout: Literal["pack", "bucket", "pad"] = "pack"
    """pack: several examples a row; bucket: padded to one of a few lengths; pad: always padded to max_length."""
    shapes: int = 3
    """Most batch shapes to compile for training."""
    cache: bool = True
    """Keep tokenised text in the user's cache folder."""
    prefetch: int = 2
    """Calls whose batches are prepared ahead of the device (runtime.steps_per_execution)."""


@dataclass(frozen=True)
class TrainConfig:
    """The loop."""

    epochs: float = 3.0
    """Passes over the training examples."""
    max_steps: int | None = None
    """Stop after so many optimizer steps whatever `epochs` says; null follows epochs."""
    batch_size: int = 32
    """Examples per optimizer step, over all devices and micro-batches."""
    micro_batches: int = 1
    """Parts that each step's batch is computed in, one after the other, to save memory."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations and matrix products; parameters and moments stay float32."""
    label_smoothing: float = 0.0
    """Probability spread over all labels, 0 to 1."""
    patience: int | None = None
    """Stop after so many evaluations without a better eval.metric; null never stops early."""
    min_delta: float = 0.0
    """Smallest change of eval.metric that counts as better."""
    hooks: list[str] = field(default_factory=list)
    """Hooks of your own, called at steps, evaluations, checkpoints and the end: module:Class, a subclass of
    jaxft.training.hooks.Hook in a module of the working directory or the Python path."""


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation during and after training."""

    every: Duration = "1 epoch"
    """Steps (500) or text (0.5 epochs) between evaluations; end evaluates only after the last step."""
    metric: str | None = None
    """Metric that chooses the best model; null takes the task's own (docs/tasks.md lists them)."""
    metrics: list[str] = field(default_factory=list)
    """Metrics of your own beside the task's: module:function, (task, collected, split) -> number."""
    batch_size: int = 128
    """Examples per evaluation step."""


@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints and the model that a run leaves."""

    every: Duration = "1 epoch"
    """Steps (500) or text (0.5 epochs) between checkpoints; end writes only the last."""
    keep: int = 2
    """Latest checkpoints that are kept."""
    select: Literal["best", "last"] = "best"
    """Which parameters become model/: best by eval.metric (when there is validation data), or last."""
    flax: bool = False
    """Also write flax_model.msgpack beside model.safetensors."""


@dataclass(frozen=True)
class DistillConfig:
    """Knowledge distillation: learn from a teacher's soft labels (Hinton et al. 2015, arXiv:1503.02531)."""

    teacher: str | None = None
    """Directory or hub id of a fine-tuned model of the same task; null does not distil."""
    temperature: float = 2.0
    """Both softmaxes are taken at this temperature; the soft loss is scaled by its square."""
    alpha: float = 0.5
    """Weight of the soft loss, 0 to 1; the hard loss gets the rest."""


@dataclass(frozen=True)
class MeshConfig:
    """How many devices do what; -1 takes the devices that are left."""

    data: int = -1
    """Devices over which batches are split."""
    fsdp: int = 1
    """Devices over which batches, parameters and moments are split."""


@dataclass(frozen=True)
class LogConfig:
    """What is written while a run goes on."""

    every: int = 50
    """Steps between rows of metrics.jsonl, and between lines of a log that is no terminal."""
    tensorboard: bool = False
    """Also write TensorBoard event files to OUTPUT_DIR/tensorboard."""
    profile_steps: list[int] | None = None
    """First and last step to trace with JAX's profiler, such as [10, 15], into OUTPUT_DIR/profile; null traces none."""
    progress: bool = True
    """Show a progress bar when the output is a terminal, and a line at each `every` when it is none."""


@dataclass(frozen=True)
class RuntimeConfig:
    """Process-wide settings, decided before the backend starts."""

    distributed: Literal["auto", "on", "off"] = "auto"
    """Join a cluster through jax.distributed; auto does when the environment announces one."""
    precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    """Precision of float32 matrix products on accelerators."""
    compile_cache: bool = True
    """Keep compiled programs in the user's cache folder."""
    unroll: int | None = None
    """Layers in one turn of the loop over them; null takes the best for the device: 1 on TPUs, 12 elsewhere."""
    attention: Literal["auto", "plain", "cudnn", "splash"] = "auto"
    """Implementation of attention: plain writes the scores to memory and does everything; cudnn (GPU) and splash (TPU) do
    not, and are refused where they cannot do what is asked; auto takes them where they can and are faster."""
    keep_frozen: bool = True
    """Compute the lowest layers once, where they are frozen and drop nothing, and keep what they give on disk."""
    steps_per_execution: int | None = None
    """Steps that one call of a program does, where so many of one shape follow each other before the next evaluation,
    checkpoint, stage or end of an epoch; null takes 8 where only a head is left of a step (keep_frozen), and else 1."""
    skip_unused_words: bool = True
    """Train only those rows of the word embeddings that the training data uses, where the optimizer would move the others by
    weight decay alone (which they still are)."""


@dataclass(frozen=True)
class Config:
    """Fine-tune a BERT-family encoder."""

    output_dir: str = "runs/default"
    """Run directory: config.yaml, metrics.jsonl, checkpoints/ and model/. The same command again resumes in it."""
    seed: int = 0
    """Seed of what is newly initialised, the order of examples and dropout."""
    model: ModelConfig = field(default_factory=ModelConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    data: DataConfig = field(default_factory=DataConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    regularization: RegularizationConfig = field(default_factory=RegularizationConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    log: LogConfig = field(default_factory=LogConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
