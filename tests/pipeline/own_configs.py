"""A pair's folder of configs as a user copies and changes them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pipeline.models import model_list, settings
from pipeline.models.settings import SETTINGS_FILE, Pair

from tests.support import ROOT


def copied(pair: str, folder: Path) -> Path:
    """Copy a pair's configs to a folder, unless they are there; return the folder."""
    if not folder.exists():
        shutil.copytree(ROOT / "configs" / pair, folder)
    return folder


@contextlib.contextmanager
def changing(configs: Path) -> Iterator[dict[str, Any]]:
    """Give what ``pair.yaml`` holds to a block that changes it, and write it back."""
    path = configs / SETTINGS_FILE
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    yield content
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    path.write_text(text, encoding="utf-8")


def from_a_learner(pair: Pair) -> Pair:
    """Return the demo with the students of other pairs: from nothing, or going on from a learner.

    The demo's own begin with the teacher's first layers. Those of its models that are not of every
    pair, and take over no layers, are there too. seq-Inter is trained by default.
    """
    path = pair.files.config_dir / SETTINGS_FILE
    own = yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
    kept = {name: entry for name, entry in own.items() if "layers" not in (entry or {})}
    changed = {**kept, "learner": {}, "seq_inter": {"default": True}}
    return replace(pair, models=tuple(model_list.merged(settings.common_models(), changed, path)))
