"""From rows to sentences, questions and entities: the formats in which annotated text comes."""
