"""An evaluation as a page with pictures."""
