"""Volumes and label maps: grids, formats, resampling, pictures. Knows nothing of models."""
