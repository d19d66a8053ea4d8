"""From examples to batches: the plan of every epoch, and the threads that make its arrays."""
