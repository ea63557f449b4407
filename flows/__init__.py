"""Prefect flows: thin bodies, each one call into `pipeline`."""
