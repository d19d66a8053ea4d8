"""Libraries say nothing that a user of the commands can act on: what matters in it jaxft says itself."""

import os
import sys
import warnings

# Read by each library when it is imported; what the user has set stays.
LEVELS = {
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",  # "PyTorch was not found"
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
}


def silence() -> None:
    """For the commands, before they import anything large; `python -W` and the libraries' own variables still hold."""
    for name, value in LEVELS.items():
        os.environ.setdefault(name, value)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # of downloads: thousands of lines in a log
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
