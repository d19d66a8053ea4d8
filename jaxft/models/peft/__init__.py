"""Reads and writes adapters in PEFT's directory format, without PEFT."""
