"""Benchmarks. `make bench` prints a table for RESULTS.md."""
