"""Objectives: what is learned from a batch, and by which loss."""
