"""Tracks in the formats of other tools, and corrected boxes back from them as training data."""
