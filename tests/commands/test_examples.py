"""The examples that train run as they are written, in a small form."""

import os
import subprocess
import sys

import pytest
import sentencepiece

from tests.support import DEMO_TEACHER, ROOT, TEXT, example, quick_path, run

pytestmark = [pytest.mark.slow, pytest.mark.extended]

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
    """No learner is needed: the student is trained from nothing on the teacher's translations."""
    out = tmp_path / "out"
    teacher, pieces = (DEMO_TEACHER / name for name in ("model.pt", "sentencepiece.model"))
    example("own_models.sh", segmented, teacher, out, "--sentencepiece", pieces, "--", *TINY)
    translated = subprocess.run(
        [sys.executable, out / "int8" / "translate.py"],
        input="Klicken Sie auf OK.\n\nFertig.\n",
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    lines = translated.stdout.split("\n")
    assert len(lines) == 4 and not lines[1] and not lines[3]
    assert (out / "distilled" / "distill.json").exists()


@pytest.mark.parametrize("given", ["--sentencepeice pieces.model", "--moses"])
def test_own_models_says_that_the_segmentation_is_missing(given):
    words = ["bin", "teacher.pt", "out", *given.split()]
    result = subprocess.run(
        ["bash", ROOT / "examples" / "own_models.sh", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert f"missing (given: {given}): choose --sentencepiece MODEL, " in result.stderr


@pytest.mark.parametrize("words", ["--moses --bpe-codes CODES", "--bpe-codes CODES --moses"])
def test_own_models_takes_the_options_of_segmentation_in_any_order(words, tmp_path):
    """The script understands the options, and misses the file."""
    result = subprocess.run(
        ["bash", ROOT / "examples" / "own_models.sh", "DATA", "teacher.pt", "OUT", *words.split()],
        cwd=tmp_path,
        env={**os.environ, "PATH": quick_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "error: missing: the segmentation's file, CODES" in result.stderr.splitlines()


def test_own_models_says_all_that_is_missing_at_once(tmp_path):
    words = [tmp_path / "data", tmp_path / "teacher.pt", tmp_path / "out"]
    result = subprocess.run(
        [
            *("bash", ROOT / "examples" / "own_models.sh", *words),
            *("--sentencepiece", tmp_path / "pieces.model"),
        ],
        env={**os.environ, "PATH": quick_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1 and not (tmp_path / "out").exists()
    told = result.stderr.splitlines()
    assert [line.split(":")[1].split(",")[0].strip() for line in told] == ["missing"] * len(told)
    for what in ("teacher.pt", "dictionaries in", "a training split", "pieces.model"):
        assert sum(what in line for line in told) == 1, what
    assert not any("fairseq-train" in line for line in told)  # that one is there


def test_language_model(tmp_path):
    for name in ("train", "valid"):
        lines = (TEXT / f"{name}.en").read_text("utf-8").splitlines()[:200]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sizes = [
        f"--decoder-layers 1 --decoder-embed-dim {width} --decoder-attention-heads 2"
        for width in (64, 32)
    ]
    quickly = ("--max-update", 20, "--lr", 0.01, "--warmup-updates", 1, "--max-tokens", 1024)
    printed = example(
        *("language_model.sh", tmp_path, tmp_path / "out", *quickly),
        **{"TYPES": "300", "TEACHER": sizes[0], "STUDENT": sizes[1], "OMP_NUM_THREADS": "1"},
    )
    told = [line.split(": ") for line in printed.splitlines() if "Perplexity" in line]
    perplexity = {words[0]: float(words[-1]) for words in told}
    assert list(perplexity) == ["teacher", "alone", "taught"]
    # One that has learnt nothing is at the number of types, or above.
    types = (tmp_path / "out" / "bin" / "dict.txt").read_text("utf-8").splitlines()
    assert all(1 < found < len(types) for found in perplexity.values()), perplexity
    assert perplexity["alone"] != perplexity["taught"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["report"], "error: report needs evaluate, which is not done: name evaluate too"),
        (["prepare", "--archives", "nowhere"], "error: --archives nowhere is no folder"),
    ],
)
def test_the_slurm_job_hands_its_words_to_the_pipeline(words, says, tmp_path):
    """As SLURM runs it on its first node; what fairseq is told: pipeline/engine/test_devices.py."""
    job = ROOT / "examples" / "slurm" / "wmt17_de_en.sbatch"
    result = subprocess.run(
        ["bash", str(job), *words, "--runs", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1 and result.stderr.splitlines()[-1] == says
