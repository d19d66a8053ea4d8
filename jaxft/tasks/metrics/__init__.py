"""Scores by established libraries, from what evaluation has summed or collected; one file per kind of task."""
