"""Models as artefacts that run without jaxft, replayed and scored when they are written."""
