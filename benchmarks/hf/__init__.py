"""The peer that jaxft is compared with: Hugging Face Trainer (PyTorch) on a recipe of jaxft's; one file a task."""
