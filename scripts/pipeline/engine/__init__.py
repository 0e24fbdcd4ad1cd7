"""Run stages: their order, states, processes and progress. Models and results are elsewhere."""
