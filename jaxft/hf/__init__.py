"""Run jaxft with the flags of Hugging Face's example scripts: `python -m jaxft.hf run_glue ...`."""
