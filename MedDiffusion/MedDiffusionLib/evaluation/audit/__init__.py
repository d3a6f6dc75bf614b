"""Whether a model has memorized the cases that it was trained on: copies, gaps, re-identification."""
