"""Weight files: their tensors, the names of these, and the merge into a model's parameters."""
