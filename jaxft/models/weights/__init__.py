"""Weight files: reading and writing tensors, their names, and matching them to a model's parameters."""
