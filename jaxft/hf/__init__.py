"""The flags of Hugging Face's example scripts, for people who come from there: `python -m jaxft.hf run_glue ...`."""
