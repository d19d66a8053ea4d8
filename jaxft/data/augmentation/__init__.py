"""Augmentation: steps that change the words of training examples, while labels, tags and answers stay where they belong."""
