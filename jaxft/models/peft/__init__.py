"""Adapters in PEFT's directory format, read and written without PEFT."""
