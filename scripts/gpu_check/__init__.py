"""Everything that a GPU may break, tried on one within minutes: tests, trainings, speed.

Each part is made of processes with a time limit, and fails for itself. Nothing is fetched.
"""
