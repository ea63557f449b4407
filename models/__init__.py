"""The networks of marey, and their training in torch. Imports nothing of `pipeline`."""
