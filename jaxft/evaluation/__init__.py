"""Evaluation, prediction and embeddings with a model that is trained."""
