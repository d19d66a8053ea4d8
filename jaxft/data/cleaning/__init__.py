"""Cleaning of texts, and search for duplicates, leaks and suspicious rows. Offsets of answers and entities are kept right."""
