"""A small text that is prepared and binarized, as far as the stages after that read it."""

from __future__ import annotations

import shutil

import pytest
from pipeline.engine import files, state
from pipeline.text import segmentation

from tests.databins import write_split
from tests.support import ROOT

GERMAN = [
    "Wählen Sie einen Bereich aus.",
    "Klicken Sie auf die Schaltfläche Schließen.",
    "Der Text wird nicht geändert.",
    "Geben Sie einen Namen ein.",
]
ENGLISH = [
    "Select a range.",
    "Click the Close button.",
    "The text is not changed.",
    "Enter a name.",
]


@pytest.fixture
def prepared(pair):
    """The demo's pair after `prepare` and `binarize`."""
    sides = {}
    teacher = ROOT / "configs" / "demo" / "teacher"
    for language, lines in zip(pair.languages, (GERMAN, ENGLISH), strict=True):
        files.write_lines(pair.files.text_dir / f"train.{language}", lines)
        segmented = pair.files.bin_dir / "segmented" / f"train.{language}"
        segmented.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(teacher / "sentencepiece.model", pair.files.bin_dir)
        shutil.copy(teacher / "dict.txt", pair.files.bin_dir / f"dict.{language}.txt")
        text = pair.files.text_dir / f"train.{language}"
        segmentation.encode(pair.files.bin_dir, language, pair.segmentation, text, segmented)
        sides[language] = files.read_lines(segmented)
    for split in ("train", "valid"):
        write_split(pair.files.bin_dir, split, sides)
    for stage in ("prepare", "binarize"):
        state.write(pair.files.run_dir, stage, state.Record({}, done=True))
    return pair
