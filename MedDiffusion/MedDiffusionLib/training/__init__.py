"""Training: data sets, their check, the plan, the run; nothing of it is needed to synthesize."""
