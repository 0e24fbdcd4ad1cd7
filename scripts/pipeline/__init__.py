"""The stages from raw text to a table of scores; run as ``scripts/pipeline.sh``."""
