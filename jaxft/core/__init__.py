"""What all other rooms use: errors, files, parameter trees, processes, and settings made before JAX starts."""
