"""The frozen teacher: its checkpoints, its models, and its answers stored on disk."""
