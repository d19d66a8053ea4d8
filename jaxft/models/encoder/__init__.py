"""The encoder: layers as Linen modules, attention, and the matrix products below them."""
