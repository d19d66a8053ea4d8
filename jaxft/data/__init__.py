"""From files to batches: `reading` (rows), `formats` (annotations), `tokens` (token ids), `batching` (device arrays)."""
