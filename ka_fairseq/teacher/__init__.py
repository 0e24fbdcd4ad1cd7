"""The frozen teacher: its checkpoints, the models at work, and its answers on disk."""
