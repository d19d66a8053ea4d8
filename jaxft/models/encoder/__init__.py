"""The encoder: layers as Linen modules, attention, and matrix products."""
