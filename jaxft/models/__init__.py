"""The encoder, its heads, and the door between parameters and files. The only folder that knows Flax."""
