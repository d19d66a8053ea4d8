"""The device mesh, and where every array lies on it."""
