"""Scores by well-kept libraries, from what evaluation has counted or collected; one file a kind of task."""
