"""Measured comparisons. `make bench` runs them; pages draw the files in results/."""
