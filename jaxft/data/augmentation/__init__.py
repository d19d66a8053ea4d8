"""Training examples that are changed in every epoch."""
