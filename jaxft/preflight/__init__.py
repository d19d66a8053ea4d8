"""Estimate before a run what it will cost: FLOPs, memory, and programs for devices that are not attached."""
