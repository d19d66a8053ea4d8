"""The section `data`: where the examples are, how they are read and how they become batches."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from jaxft.config.clean import CleanConfig
from jaxft.config.limits import Limit, NonNegativeInt, PathText, PathTexts, PositiveInt, Rate, Section, Seed, require
from jaxft.config.used_by import PLAN_AND_EVALUATE, TRAIN_ONLY, UsedBy
from jaxft.core.errors import UserError

SPLITS = ("train", "validation", "test")
DIFFERENT_COLUMNS = Limit("different columns", lambda x: 0 < len(set(x)) == len(x))


@dataclass(frozen=True)
class DataConfig(Section):
    """The examples and their batches."""

    used_by = PLAN_AND_EVALUATE

    dataset: PathText | None = None
    """Hub id or saved Arrow directory; train, validation and test then name its splits instead of files."""
    dataset_config: str | None = None
    """Configuration name of a hub data set."""
    train: PathTexts = None
    """Training data: a file, a pattern such as data/*.csv, a list of files, or a directory with a folder of .txt files for
    each label. Files are csv, tsv, json, jsonl or txt (also .gz, .bz2 or .zst), parquet or arrow."""
    validation: PathTexts = None
    """Validation data; null sets `validation_share` of the training examples aside."""
    test: PathTexts = None
    """Test data, on which the final parameters are evaluated once."""
    validation_share: Rate = 0.0
    """Share of the training examples, from 0 to below 1, that is set aside for validation if no validation data is given."""
    split_seed: Seed = 0
    """Seed of that split alone, so that runs with another `seed` are validated on the same examples."""
    order_seed: Annotated[Seed | None, TRAIN_ONLY] = None
    """Seed of the order of the training examples; null takes `seed`."""
    stratify: bool = False
    """Text classification: whether each label keeps its share in that split."""
    max_train_examples: PositiveInt | None = None
    """Number of training examples to use, the first ones, before validation examples are set aside; null uses all. Shuffle a
    file that is sorted by label."""
    max_eval_examples: PositiveInt | None = None
    """Number of validation and test examples to use, the first ones; null uses all. evaluate honours it, too, and predict if
    it is given there."""
    text: str = "text"
    """Column of the text, or of the words."""
    text_pair: str | None = None
    """Column of the second text, for pairs."""
    label: str | Annotated[list[str], DIFFERENT_COLUMNS] = "label"
    """Column of the label, or of the tags. It holds a name or number, a list of labels, or text that `label_separator`
    splits; a list of columns holds several numbers, or with 0 and 1 several labels."""
    teacher: Annotated[str | None, UsedBy.PLAN] = None
    """Distillation: column of the training data with the teacher of each example, by its number in distill.teacher, from 0,
    or its name there; null takes the mean of all teachers."""
    weight: Annotated[str | None, UsedBy.PLAN] = None
    """Column of the training data with a number of 0 or more that each row's loss is multiplied by, such as the importance
    that `jaxft weigh` estimates; null weighs all alike. Evaluation never weighs."""
    sentence_column: str | list[str] | None = None
    """Token classification: column that says which sentence a word belongs to, in tables with one word per row; or several
    columns that say so together, such as document and sentence. Known names (Sentence #, sentence_id ...) are found."""
    split_words: Literal["punctuation", "spaces"] | None = None
    """Token classification: where texts are split into words, which is at white space, or also around punctuation marks and
    symbols; null splits as in training, where the default is punctuation. Texts beside a text of tags are split at white
    space."""
    unknown_labels: Literal["error", "drop"] = "error"
    """What to do with labels that training does not have: drop leaves out their examples (multi-label: only the labels) and
    reports how many."""
    label_separator: Annotated[str, Limit("text, or null for lists", bool)] | None = None
    """Multi-label: text between the labels of a text column, such as a comma; null reads lists."""
    id: str = "id"
    """Question answering: column of the question's id; questions without ids are numbered. Rows with the same id, question
    and context, each with one answer, are one question."""
    question: str = "question"
    """Question answering: column of the question."""
    context: str = "context"
    """Question answering: column of the text that contains the answer."""
    answers: str = "answers"
    """Question answering: column of the answers, {text: [...], answer_start: [...]}, or of the text of one answer."""
    answer_start: str = "answer_start"
    """Question answering: column of the character of the context at which a single answer starts, a number or
    (start, end)."""
    no_answer: str | None = None
    """Question answering: text that means no answer, and is removed from the end of a context (in SubjQA ANSWERNOTFOUND);
    an empty answer always means none."""
    choices: Annotated[list[str], DIFFERENT_COLUMNS] | None = None
    """Multiple choice: columns of the choices, or one column of lists."""
    stride: NonNegativeInt | None = None
    """Number of tokens that neighbouring windows of a long text share, if texts are split into windows; null takes a quarter
    of max_length."""
    columns: list[str] | None = None
    """Column names of a csv or tsv file that has no header line, or of a CoNLL file."""
    quotes: Literal["auto", "standard", "none"] = "auto"
    """Quoting in csv and tsv files; auto means standard for csv and none for tsv."""
    max_length: Annotated[int, Limit("at least 3", lambda x: x >= 3)] = 128
    """Longest sequence in tokens, including special tokens."""
    truncation: bool = True
    """Cut longer texts; false makes a longer text an error."""
    documents: Literal["join", "lines"] = "join"
    """Masked LM: join concatenates all texts and cuts the result into examples of max_length; lines cuts each text (each
    line of a txt file) on its own."""
    empty_texts: Literal["error", "drop", "null"] = "error"
    """What to do with rows whose text is empty or missing: error reports the first, drop leaves them out. The default of
    predict is null, which writes a prediction of nulls in their place, and also for a question that leaves its context no
    room."""
    clean: CleanConfig = field(default_factory=CleanConfig)
    layout: Literal["pack", "bucket", "pad"] = "pack"
    """pack puts several examples into a row; bucket pads to one of a few lengths; pad always pads to max_length."""
    shapes: PositiveInt = 3
    """Largest number of batch shapes to compile for training."""
    cache: bool = True
    """Keep tokenised text in the user's cache folder."""
    prefetch: Annotated[PositiveInt, TRAIN_ONLY] = 2
    """Number of calls (runtime.steps_per_execution) whose batches are prepared ahead of the device."""

    @property
    def window_stride(self) -> int:
        """`stride`, or its default."""
        return self.max_length // 4 if self.stride is None else self.stride

    def check(self, prefix: str) -> None:
        """Windows advance, and there is one source of validation examples."""
        most = self.max_length
        right = f"0 or more and below {prefix}max_length {most}"
        require(self.stride is None or self.stride < most, f"{prefix}stride", self.stride, right)
        if self.validation and self.validation_share:
            names = f"{prefix}validation and {prefix}validation_share"
            raise UserError(f"{names} exclude each other: choose a file or a share")
