"""Reads files into rows: finds the files that an option names, and reads their columns as Arrow tables."""
