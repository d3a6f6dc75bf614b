"""The front ends without a window: the meddiffusion command, and what CLI modules need."""
