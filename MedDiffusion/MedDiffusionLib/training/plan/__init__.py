"""Plans: presets, the rules that make one from the data, what it will cost."""
