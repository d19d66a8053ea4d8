"""What everything stands on: errors, files, parameter trees, processes, and what is set before JAX starts."""
