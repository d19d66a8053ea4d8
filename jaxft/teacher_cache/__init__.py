"""The outputs of a teacher on disk: what is kept, computed once in a fixed layout, checked, and read by the train steps."""
