"""The shell commands of README and docs run, in a small form, or are at least what they parse as.

Those on a finished run of the demo: tests/pipeline/finished/test_doc_commands.py.
"""

import re
import shlex
import shutil

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
    r"pip install": "tests/test_other_environment.py",
    r"(scp|python3 -m venv|gpu-venv/|PYTHON=gpu-venv/)": "another machine",
    r"\./scripts/(demo|test)\.sh": ".ci/run; tests/pipeline/finished",
    r"fairseq-train DATA --user-dir mine": "tests/test_extending.py",
    r"python -m ka_fairseq\.cache build --config-dir": "stage cache of tests/pipeline/finished",
    r"python scripts/benchmark\.py": "tests/test_benchmark.py",
    r"python examples/": "tests/analysis/test_examples.py",
    r"…$": "nothing",
}
RUN_HERE = r"(KA=|fairseq-|python -m ka_fairseq|python de-en/|pip install -r de-en)"
ON_THE_DEMO = r"(RUN=|for Q|paste|done|sacrebleu|du |python \$Q)|.*(\$RUN|runs/demo)"


def page_id(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_is_of_a_kind_that_is_tested(page):
    kinds = (*ELSEWHERE, RUN_HERE, ON_THE_DEMO)
    unknown = [
        line
        for line in lines(page)
        if not SCRIPTS.search(line) and not any(re.match(kind, line) for kind in kinds)
    ]
    assert unknown == []


def commands_of_scripts():
    return [(page, line) for page in PAGES for line in lines(page) if SCRIPTS.search(line)]


@pytest.mark.parametrize(
    ("page", "line"), commands_of_scripts(), ids=lambda value: getattr(value, "name", value)
)
def test_a_scripts_command_names_what_is_there(page, line, tmp_path, monkeypatch):
    """Up to the first stage: options, pairs, stages, methods and grids."""
    from pipeline import __main__ as pipeline
    from pipeline import comet, compare, engine_speed, stages, sweep

    script = SCRIPTS.search(line)[1]
    words = shlex.split(line[line.index(".sh") + 3 :].replace("~/", f"{tmp_path}/").rstrip("&"))
    for name in ("DIR", "corpus", "wmt17", "iwslt15"):
        (tmp_path / name).mkdir()
    for split in ("train", "valid", "test", "news2017", "test_2016_flickr", "test_2017_flickr"):
        for language in ("de", "en"):
            for folder in ("DIR", "corpus"):
                (tmp_path / folder / f"{split}.{language}").write_text("Ja.\n", encoding="utf-8")
    words = [str(tmp_path / "DIR") if word == "DIR" else word for word in words]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(comet, "_command", lambda: "of another environment")
    if script == "pipeline":
        arguments = pipeline._parser().parse_intermixed_args(words)
        pair, names = pipeline._pair_and_stages(arguments)
        assert stages.shared(pair, names) if arguments.shard else stages.chosen(pair, names)
    elif script == "compare":
        arguments = compare._parser().parse_args(words)
        assert compare.comparison_of(arguments).methods
    elif script == "sweep":
        arguments = sweep._parser().parse_args(words)
        assert list(sweep._points(sweep.cli.load_pair(arguments.pair, arguments), arguments))
    elif script == "engines":
        engine_speed._parser().parse_args(words)
    else:
        from gpu_check import __main__ as gpu_check

        gpu_check._parser().parse_args(words)


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
    run_block(block, folder, arch, ("--max-epoch 30", "--max-update 2"))
    assert len((folder / "text.en").read_text("utf-8").split("\n")) == 4


@pytest.mark.slow
def test_the_guide_to_training(folder):
    block = without(block_with("docs/training.md", "--max-epoch 10"), "pip install")
    assert "D-0\t" in run_block(block, folder, *SMALLER)


@pytest.mark.slow
def test_the_guide_to_the_cache(folder):
    block = without(
        block_with("docs/cache.md", "beforehand"), "python -m ka_fairseq.cache build --config-dir"
    )
    learner = f"{AS_IN_README} --teacher-path teacher.pt --criterion backward_kl"
    run_block(block, folder, ("fairseq-train …", f"fairseq-train DATA {learner} --save-dir cached"))
    block = without(block_with("docs/cache.md", "--shard 1/4"), "scripts/")
    assert "pairs answered, the others were there" in run_block(block, folder)


@pytest.mark.slow
def test_two_teachers_in_turn(folder):
    block = block_with("docs/methods.md", "junior.pt")
    run_block(block, folder, ("fairseq-train …", f"fairseq-train DATA {AS_IN_README}"))
    assert (folder / "second" / "checkpoint_best.pt").exists()


@pytest.mark.slow
def test_the_guide_to_deploying(folder):
    run_block(without(block_with("docs/deploy.md", "de-en/ --to ctranslate2"), "pip"), folder)
    block = without(block_with("docs/deploy.md", "--n-best 3"), "pip install", "scp")
    printed = run_block(block, folder)
    assert len([line for line in printed.splitlines() if line.count("\t") == 2]) >= 6
