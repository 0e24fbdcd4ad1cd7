"""Probe a GPU in one process: each figure is a line, written at once; the most telling first."""
