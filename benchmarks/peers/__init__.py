"""Whole training loops of jaxft, of Hugging Face Trainer and of Hugging Face's Flax script, in turn on the same recipe."""
