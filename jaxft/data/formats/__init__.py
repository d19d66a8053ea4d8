"""Formats of annotated text: reads files and rows into sentences, questions and entities."""
