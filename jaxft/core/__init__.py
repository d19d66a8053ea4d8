"""What all other packages use: errors, files, parameter trees, processes, and settings made before JAX starts."""
