"""Batches of calls of the program's functions, and repeats of single ones."""
