"""The jitted train step, and what is computed in it beside the task's own loss."""
