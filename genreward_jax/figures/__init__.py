"""Pictures a run draws."""
