"""Whole training loops of jaxft and of what people would use instead, in turn on the same recipe."""
