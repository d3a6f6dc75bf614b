"""The run: steps, checkpoints, log, validation, and the bundle at its end."""
