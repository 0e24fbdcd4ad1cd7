"""Probe a GPU in one process. Each figure is written at once; the most useful come first."""
