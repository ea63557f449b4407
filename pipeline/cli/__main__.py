"""`python -m pipeline.cli` is `marey`."""

from pipeline.cli import main

main()
