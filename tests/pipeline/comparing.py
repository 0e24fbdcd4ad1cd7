"""Two runs that must not differ: parameters to the last bit, scores to the last digit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from pipeline.models import training_log

from tests.pipeline.project import MODELS, Project


def losses(lines: str) -> dict[tuple[str, str], dict[str, str]]:
    """What was logged, but for times: (kind, number of updates) → record.

    Where something was logged more than once, as an update that was lost and made again, it must
    have been the same each time.
    """
    found = {}
    for line in lines.splitlines():
        kind = re.search(r"(train_inner|valid|train)(?: \||\]\[)", line)
        record = training_log.parse(line)
        if kind is None or record is None:
            continue
        prefix = "" if kind[1] == "train_inner" else f"{kind[1]}_"
        times = {f"{prefix}{name}" for name in ("wps", "ups", "wall", "train_wall", "gb_free")}
        kept = {name: value for name, value in record.items() if name not in times}
        key = kind[1], record[f"{prefix}num_updates"]
        assert found.setdefault(key, kept) == kept
    return found


def assert_same_losses(killed: str, whole: str) -> None:
    """The mean over an epoch is written after its checkpoint, and may be lost between the two."""
    found, expected = losses(killed), losses(whole)
    assert {kind for kind, _ in expected} == {"train_inner", "valid", "train"}
    for key, record in expected.items():
        if key in found or key[0] != "train":
            assert found[key] == record
    assert found.keys() <= expected.keys()


def parameters(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]


def assert_same_parameters(one: Path, other: Path) -> None:
    found, expected = parameters(one), parameters(other)
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), f"{name} of {one}"


def assert_same_trainings(one: Project, other: Project, *models: str) -> None:
    """These models, and what was logged while they were trained."""
    for model in models:
        for name in ("checkpoint_best.pt", "checkpoint_last.pt", "model.pt"):
            assert_same_parameters(*(p.run_dir / model / name for p in (one, other)))
        assert_same_losses(*(p.log(model).read_text("utf-8") for p in (one, other)))


def assert_same_runs(one: Project, other: Project) -> None:
    """All models, what was logged while they were trained, and the tables."""
    assert_same_trainings(one, other, *MODELS)
    content, expected = (
        json.loads((project.run_dir / "report.json").read_text(encoding="utf-8"))
        for project in (one, other)
    )
    assert [row["model"] for row in expected["models"]] == MODELS
    assert _without_times(content) == _without_times(expected)


def _without_times(content: dict[str, Any]) -> list[Any]:
    rows = [{**row, "train_minutes": None} for row in content["models"]]
    keys = ("model", "beam", "lenpen", "bleu", "chrf", "length_ratio")
    (found,) = content["operating_points"].values()
    points = [{key: row[key] for key in keys} for row in found["rows"]]
    return [*rows, *points, content["tests"]]
