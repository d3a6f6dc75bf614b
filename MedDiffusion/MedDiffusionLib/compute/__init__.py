"""The ground: errors, files, devices, processes. Knows nothing of volumes or models."""
