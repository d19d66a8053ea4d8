"""From files to batches: sources (rows), encode (token ids), batches (the plan), feed (device arrays)."""
