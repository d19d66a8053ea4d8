"""Cleaning of texts, whose edits carry answers and entities along, and the search for duplicate texts."""
