"""From a config to all that a run is made of, and what its directory records."""
