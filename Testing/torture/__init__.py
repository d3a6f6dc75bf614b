"""Bad, odd and hostile inputs, made from a seed, for the installed command; see ``run.py``."""
