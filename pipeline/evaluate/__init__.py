"""Measures of models against truth."""
