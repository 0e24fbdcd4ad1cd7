"""Find the Hydra config of a method: ``configs/methods.yaml`` has the methods of all pairs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipeline.engine.errors import PipelineError
from pipeline.models.settings import CONFIGS

FILE = CONFIGS / "methods.yaml"
BASE = "ka"
"""The Hydra config of every pair that the methods change."""


class Method(NamedTuple):
    """A Hydra config and the changes to the config, by dotted keys."""

    config: str
    settings: Mapping[str, Any]


def find(name: str, hydra_dir: Path) -> Method:
    """Return the method that a model names under `config`.

    Args:
        name: the name of a Hydra config in `hydra_dir`, or of a method in `FILE`. If both exist,
            the Hydra config counts.
        hydra_dir: the folder with the pair's Hydra configs.

    Raises:
        PipelineError: neither exists.
    """
    path = hydra_dir / f"{name}.yaml"
    if path.exists():
        return Method(name, {})
    if name not in known():
        raise PipelineError(
            f"config {name}: there is no {path}, and no method {name}: choose from "
            f"{', '.join([BASE, *known()])}, or write the file"
        )
    return Method(BASE, known()[name])


@functools.cache
def known() -> dict[str, dict[str, Any]]:
    """Return the settings of each method in `FILE`, by name."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))
