"""Whether a model has memorized the cases that it was trained on, and what tells whose they are."""
