"""A report of runs: one html file that shows what was trained, how it went and where the model errs."""
