"""Evaluation, prediction and embeddings with a fine-tuned model."""
