"""The pipeline is a folder of scripts, not an installed package."""

from __future__ import annotations

import sys

import pytest

from tests.support import ROOT

sys.path.insert(0, str(ROOT / "scripts"))


@pytest.fixture
def pair(tmp_path):
    """The demo's settings with an empty run folder, in a folder whose name is not plain ASCII."""
    from pipeline import settings

    return settings.load(ROOT / "configs" / "demo", tmp_path / "Läufe hier")
