"""The encoder and its heads, and how their parameters are loaded and saved. Only this folder imports Flax."""
