"""Converts text to token ids, cached on disk."""
