"""The examples that train run as they are written, in a small form."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sentencepiece

from tests.support import DEMO_TEACHER, ROOT, TEXT, run, train

pytestmark = pytest.mark.slow

TINY = ("--arch", "transformer_tiny", "--max-update", 4)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """Text as the demo's teacher reads it, binarized with its dictionary."""
    folder = tmp_path_factory.mktemp("segmented")
    pieces = sentencepiece.SentencePieceProcessor(str(DEMO_TEACHER / "sentencepiece.model"))
    for split in ("train", "valid"):
        for language in ("de", "en"):
            lines = (TEXT / f"{split}.{language}").read_text("utf-8").splitlines()[:200]
            encoded = (" ".join(pieces.encode(line, out_type=str)) for line in lines)
            (folder / f"{split}.{language}").write_text("\n".join(encoded) + "\n", "utf-8")
    dictionary = DEMO_TEACHER / "dict.txt"
    run(
        "fairseq-preprocess",
        *("-s", "de", "-t", "en", "--srcdict", dictionary, "--tgtdict", dictionary),
        *("--trainpref", folder / "train", "--validpref", folder / "valid"),
        *("--destdir", folder / "bin"),
    )
    return folder / "bin"


def test_own_models(segmented, tmp_path):
    plain = ("--task", "translation", "--criterion", "label_smoothed_cross_entropy")
    train(segmented, tmp_path / "learner", *plain, *TINY)
    files = [
        DEMO_TEACHER / "model.pt",
        tmp_path / "learner" / "checkpoint_best.pt",
        DEMO_TEACHER / "sentencepiece.model",
    ]
    out = tmp_path / "out"
    bin_dir = Path(sys.executable).parent
    more = [*map(str, TINY), "--teacher-data", segmented]  # its dictionary has no language's name
    subprocess.run(
        ["bash", ROOT / "examples" / "own_models.sh", segmented, *files, out, *more],
        env={**os.environ, "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}"},
        check=True,
        cwd=tmp_path,
    )
    translated = subprocess.run(
        [sys.executable, out / "int8" / "translate.py"],
        input="Klicken Sie auf OK.\n\nFertig.\n",
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    lines = translated.stdout.split("\n")
    assert len(lines) == 4 and not lines[1] and not lines[3]
