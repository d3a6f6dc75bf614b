"""The process that keeps a model loaded, its client, and what the two say to each other."""
