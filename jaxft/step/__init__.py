"""The jitted train step, and what it computes in addition to the task's loss."""
