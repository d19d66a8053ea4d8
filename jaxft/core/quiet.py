"""Silences the libraries' warnings in the commands; jaxft itself reports what the user needs to know."""

import os
import sys
import warnings

# Each library reads its variable when it is imported. Variables that the user has set keep their values.
LEVELS = {
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",  # "PyTorch was not found"
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
}


def silence() -> None:
    """Set the log levels; call it before the imports. `python -W` and variables that are already set take precedence."""
    for name, value in LEVELS.items():
        os.environ.setdefault(name, value)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a download would write thousands of lines into a log
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
