"""Data sets: their files, their check, and the samples that training draws from them."""
