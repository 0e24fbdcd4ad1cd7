"""The pipeline is a folder of scripts, not an installed package."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

sys.path.insert(0, str(ROOT / "scripts"))


@pytest.fixture
def pair(tmp_path):
    """The demo's settings with an empty run folder, in a folder whose name is not plain ASCII."""
    from pipeline.models import settings

    return settings.load(ROOT / "configs" / "demo", tmp_path / "Läufe hier")


@pytest.fixture
def comet_score(tmp_path, monkeypatch):
    """Put a stand-in for Unbabel's comet-score into PATH."""
    folder = tmp_path / "comet bin"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("comet_score.py"), folder / "comet-score")
    (folder / "comet-score").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
