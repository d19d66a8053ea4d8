"""What a run will cost, known before it begins: FLOPs, memory, programs for devices that are not here."""
