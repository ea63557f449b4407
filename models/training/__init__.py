"""Data sets, losses and loops. Needed for training only."""
