"""What the panel's sections decide, without Qt and without a scene: the sections only show it."""
