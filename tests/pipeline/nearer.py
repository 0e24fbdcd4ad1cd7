"""Whether a learner came nearer to its teacher, by the log of its training."""

from __future__ import annotations

from pathlib import Path

from pipeline.models import training_log


def assert_comes_nearer(log: Path) -> None:
    """By a third or more, with the mean of every five updates, and on validation."""
    records = training_log.read(log)
    distances = [float(r["transfer_loss"]) for r in records if "transfer_loss" in r]
    assert len(distances) >= 8
    assert distances[-1] < 0.7 * distances[0]
    validated = training_log.by_epoch(records, "valid_transfer_loss")
    assert max(validated.values()) < distances[0]
