"""From examples to batches: the batches of every epoch, and the threads that make their arrays."""
