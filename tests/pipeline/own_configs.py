"""A pair's folder of configs as a user copies and changes them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pipeline.settings import SETTINGS_FILE

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
