"""One process on one card: each figure is a line, written at once, the most telling ones first."""
