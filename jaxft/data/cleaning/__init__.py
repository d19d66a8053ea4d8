"""Cleaning of texts, and the search for duplicates, leaks and odd rows. Offsets of answers and entities are kept right."""
