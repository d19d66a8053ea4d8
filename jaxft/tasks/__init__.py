"""One file a task: columns to features, head, loss, metrics, decode."""
