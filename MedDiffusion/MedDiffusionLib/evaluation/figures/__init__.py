"""Figures of volumes and of sets of feature vectors: pure functions on arrays, no files, no models.

Bad data are a UserError with a code: ``too-few-cases``, ``too-few-values``, ``not-finite``,
``constant``, ``too-small``. Arrays of shapes that do not fit each other are a ValueError: the
caller's mistake.
"""
