"""Presets for students: ``students/NAME.yaml``, which a model's entry names as its `student`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import PipelineError

FOLDER = "students"
COMMON = Path(__file__).resolve().parents[2] / "configs" / FOLDER


def settings(name: str, config_dir: Path) -> dict[str, Any]:
    """Return what a preset sets of a Hydra config, by dotted keys.

    Args:
        name: of the preset.
        config_dir: a pair's; presets of its own are in its folder `FOLDER`.

    Raises:
        PipelineError: there is none of this name, or it is no list of settings.
    """
    found = _presets(config_dir)
    if name not in found:
        raise PipelineError(f"student {name}: choose from {', '.join(sorted(found)) or 'none'}")
    content = yaml.safe_load(found[name].read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise PipelineError(f"{found[name]} should hold fairseq's settings of a model, by name")
    return {f"model.{key}": value for key, value in content.items()}


def _presets(config_dir: Path) -> dict[str, Path]:
    """Return the file of each preset; a pair's own come before those of all."""
    folders = (COMMON, config_dir / FOLDER)
    return {path.stem: path for folder in folders for path in folder.glob("*.yaml")}
