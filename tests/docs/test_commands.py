"""The shell commands of README and docs run, in a small form, or are at least what they parse as.

Those on a finished run of the demo: tests/pipeline/finished/test_doc_commands.py.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable

import pandas as pd
import pytest

from tests.doc_commands import PAGES, SCRIPTS, block_with, lines, run_block
from tests.support import DEMO_TEACHER, ROOT, TEXT, run, train

# The README's options after --user-dir, which other pages leave out as "…".
AS_IN_README = (
    '--user-dir "$(python -m ka_fairseq)" --task translation_with_teacher --arch transformer_tiny '
    "--optimizer adam --lr 1e-4 --max-tokens 4096 --max-update 2"
)
SMALLER = (
    ("--arch transformer_iwslt_de_en", "--arch transformer_tiny"),
    ("--max-epoch 10", "--max-update 2"),
)
# What a test cannot run: it would install, needs another machine, is the test itself, or is run as
# it stands by CI or by the tests that are named.
ELSEWHERE = {
    r"pip install": "docs/install.md's versions: tests/commands/test_other_environment.py",
    r"(scp|python3 -m venv|gpu-venv/|PYTHON=gpu-venv/)": "another machine",
    r"\./scripts/(demo|test)\.sh": ".ci/run; tests/pipeline/finished",
    r"fairseq-train DATA --user-dir mine": "tests/docs/test_extending.py",
    r"python -m ka_fairseq\.cache build --config-dir": "stage cache of tests/pipeline/finished",
    r"python scripts/benchmark\.py": "tests/tools/test_benchmark.py",
    r"(gpu-venv/bin/)?python scripts/gpu_probe\.py": "tests/tools/test_gpu_probe.py",
    r"(scripts/slurm_check\.sh|srun |sbatch |squeue |cat runs/)": "tests/slurm",
    r"scripts/pool\.sh": "tests/docs/test_pooled.py",
    r"python examples/": "tests/unit/analysis/test_examples.py",
    r"…$": "nothing",
}
RUN_HERE = r"(KA=|fairseq-|python -m ka_fairseq|python de-en/|pip install -r de-en)"
ON_THE_DEMO = r"(RUN=|for Q|paste|done|sacrebleu|du |python \$Q)|.*(\$RUN|runs/demo)"


def test_every_command_is_of_a_kind_that_is_tested():
    kinds = (*ELSEWHERE, RUN_HERE, ON_THE_DEMO)
    unknown = [
        f"{page.relative_to(ROOT)}: {line}"
        for page in PAGES
        for line in lines(page)
        if not SCRIPTS.search(line) and not any(re.match(kind, line) for kind in kinds)
    ]
    assert not unknown, "\n".join(unknown)


def test_the_scripts_commands_name_what_is_there(corpora, mains, capsys):
    """Up to where the first stage would begin: options, pairs, stages, methods and grids."""
    commands = [(page, line) for page in PAGES for line in lines(page) if SCRIPTS.search(line)]
    refused = []
    for page, line in commands:
        words = line[line.index(".sh") + 3 :].replace("~/", f"{corpora}/").rstrip("&")
        own = [str(corpora / "DIR") if word == "DIR" else word for word in shlex.split(words)]
        try:
            code = mains[SCRIPTS.search(line)[1]](own)
        except SystemExit as error:  # argparse's
            code = error.code
        if code:
            said = capsys.readouterr().err.splitlines()[-1:]
            refused.append(f"{page.relative_to(ROOT)}: {line}: {said}")
    assert len(commands) > 30
    assert not refused, "\n".join(refused)


@pytest.fixture
def corpora(tmp_path):
    """A reader's own texts, and archives that the reader fetched by hand."""
    for name in ("DIR", "corpus", "wmt17", "iwslt15"):
        (tmp_path / name).mkdir()
    for folder in ("DIR", "corpus"):
        for split in ("train", "valid", "test", "news2017", "test_2016_flickr", "test_2017_flickr"):
            for language in ("de", "en"):
                (tmp_path / folder / f"{split}.{language}").write_text("Ja.\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def mains(tmp_path, monkeypatch) -> dict[str, Callable[[list[str]], int]]:
    """What each script runs, with nothing behind it that takes time."""
    from pipeline import __main__ as pipeline
    from pipeline import cli, compare, stages, submit, sweep
    from pipeline.engine import schedule
    from pipeline.engine.devices import Slot
    from pipeline.models import engine_speed

    def without_shares(pair, names, shared=stages.shared):
        assert shared(pair, names)
        return []

    def some_stages(pair, chosen, *_, **__):
        assert chosen

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(schedule, "run", some_stages)
    monkeypatch.setattr(submit.Submission, "submit", some_stages)
    monkeypatch.setattr(stages, "shared", without_shares)
    monkeypatch.setattr(cli, "slots", lambda *_: [Slot()])  # it composes every training's config
    monkeypatch.setattr(sweep, "draw", lambda pair: pd.DataFrame())
    monkeypatch.setattr(engine_speed, "compare", lambda *_: pd.DataFrame())
    comet_score = tmp_path / "bin" / "comet-score"
    comet_score.parent.mkdir()
    comet_score.write_text("#!/bin/sh\n", encoding="utf-8")
    comet_score.chmod(0o755)
    monkeypatch.setenv("PATH", str(comet_score.parent), prepend=":")
    runs = ["--runs", str(tmp_path / "runs")]
    return {
        "pipeline": lambda words: pipeline.main([*words, *runs]),
        "compare": lambda words: compare.main([*words, *runs]),
        "sweep": lambda words: sweep.main([*words, *runs]),
        "engines": lambda words: engine_speed.main([*words, *runs]),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reader's folder: the files under the names that the docs have for them."""
    folder = tmp_path_factory.mktemp("reader")
    pieces_file = DEMO_TEACHER / "sentencepiece.model"
    for split in ("train", "valid", "test"):
        for language in ("de", "en"):
            segmented = _segmented(TEXT / f"{split}.{language}", pieces_file)
            (folder / f"{split}.{language}").write_text(segmented, encoding="utf-8")
    dictionary = DEMO_TEACHER / "dict.txt"
    run(
        "fairseq-preprocess",
        *("-s", "de", "-t", "en", "--srcdict", dictionary, "--tgtdict", dictionary),
        *(
            word
            for split in ("train", "valid", "test")
            for word in (f"--{split}pref", folder / split)
        ),
        *("--destdir", folder / "DATA"),
    )
    plain = ("--task", "translation", "--criterion", "label_smoothed_cross_entropy")
    train(folder / "DATA", folder / "trained", *plain, "--max-update", 4)
    shutil.copy(folder / "trained" / "checkpoint_best.pt", folder / "learner.pt")
    for name in ("teacher", "junior", "senior"):
        shutil.copy(DEMO_TEACHER / "model.pt", folder / f"{name}.pt")
    for language in ("de", "en"):  # the teacher's, beside it
        shutil.copy(dictionary, folder / f"dict.{language}.txt")
    for name in ("MODEL", "sentencepiece.model"):
        shutil.copy(pieces_file, folder / name)
    (folder / "BIN").symlink_to("DATA")
    for name in ("text", "a", "b"):
        (folder / f"{name}.de").write_text("Klicken Sie auf OK.\n\nFertig.\n", encoding="utf-8")
    return folder


def _segmented(path, pieces_file):
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(str(pieces_file))
    text = path.read_text("utf-8").splitlines()[:80]
    return "".join(" ".join(pieces.encode(line, out_type=str)) + "\n" for line in text)


def without(block, *left_out):
    """A block without the lines that begin so."""
    return "\n".join(line for line in block.split("\n") if not line.startswith(left_out))


@pytest.mark.slow
def test_the_first_screen_distils_trains_and_translates(folder):
    block = without(block_with("README.md", "--destdir distilled"), "pip install")
    arch, _ = SMALLER
    run_block(block, folder, arch, ("--max-epoch 30", "--max-update 2"), as_typed=True)
    assert len((folder / "text.en").read_text("utf-8").split("\n")) == 4


@pytest.mark.slow
@pytest.mark.extended
def test_the_guide_to_training(folder):
    block = without(block_with("docs/training.md", "--max-epoch 10"), "pip install")
    assert "D-0\t" in run_block(block, folder, *SMALLER)


@pytest.mark.slow
@pytest.mark.extended
def test_the_guide_to_the_cache(folder):
    block = without(
        block_with("docs/cache.md", "beforehand"), "python -m ka_fairseq.cache build --config-dir"
    )
    learner = f"{AS_IN_README} --teacher-path teacher.pt --criterion backward_kl"
    run_block(block, folder, ("fairseq-train …", f"fairseq-train DATA {learner} --save-dir cached"))
    block = without(block_with("docs/cache.md", "--shard 1/4"), "scripts/")
    assert "pairs answered, the others were cached" in run_block(block, folder)


@pytest.mark.slow
@pytest.mark.extended
def test_two_teachers_in_turn(folder):
    block = block_with("docs/methods.md", "junior.pt")
    run_block(block, folder, ("fairseq-train …", f"fairseq-train DATA {AS_IN_README}"))
    assert (folder / "second" / "checkpoint_best.pt").exists()


@pytest.mark.slow
@pytest.mark.extended
def test_the_guide_to_deploying(folder):
    run_block(without(block_with("docs/deploy.md", "de-en/ --to ctranslate2"), "pip"), folder)
    block = without(block_with("docs/deploy.md", "--n-best 3"), "pip install", "scp")
    printed = run_block(block, folder)
    assert len([line for line in printed.splitlines() if line.count("\t") == 2]) >= 6
