"""``python -m ka_fairseq.distill``: against fairseq-generate, and across interruptions."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from sacrebleu import sentence_chrf

from ka_fairseq.distill import __main__ as command
from ka_fairseq.distill import shards
from ka_fairseq.errors import UserError
from tests import killing
from tests.databins import read_split, write_split
from tests.support import ROOT, USER_DIR, quick_path, run

# A teacher that is hardly trained repeats itself: all that is filtered is kept here.
UNFILTERED = ("--max-repeats", 0, "--max-ratio", 0, "--keep-copies", "--keep-duplicates")
SEARCH = ("--beam", 3, "--max-len-a", 1, "--max-len-b", 5, "--cpu")
SENTENCES = 60


@pytest.fixture(scope="session")
def small(binarized, made_once) -> Path:
    """The first sentences of the data-bin."""

    def fill(folder: Path) -> None:
        for path in binarized.iterdir():
            if path.name.startswith(("dict.", "valid.")):
                shutil.copy(path, folder)
        sides = {lang: read_split(binarized, "train", lang)[:SENTENCES] for lang in ("de", "en")}
        write_split(folder, "train", sides)

    return made_once("small", fill)


def distill(*words: object) -> None:
    command.main([*map(str, words)])


def contents(folder: Path) -> dict[str, bytes]:
    """All files by name but for the record, which has the command line in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "distill.json"
    }


@pytest.fixture(scope="module")
def whole(small, teacher_file, tmp_path_factory) -> Path:
    """The data-bin distilled in one go, in several files."""
    out = tmp_path_factory.mktemp("whole") / "out"
    distill(*line(small, teacher_file, out))
    return out


def line(data: Path, teacher: Path, out: Path) -> tuple[object, ...]:
    return (
        *(data, "--path", teacher, "--destdir", out, *SEARCH, *UNFILTERED),
        *("--per-file", 16, "--threads", 1),
    )


def test_the_chosen_are_those_of_fairseq_generates_n_best(small, teacher_file, tmp_path):
    """By a few lines that share nothing with the command but the search's options."""
    search = ("--beam", 3, "--max-len-a", 0, "--max-len-b", 30, "--nbest", 3, "--cpu")
    generated = run(
        *("fairseq-generate", small, "--user-dir", USER_DIR, "--path", teacher_file, *search),
        *("--gen-subset", "train"),
        *("--max-tokens", 260, "--required-batch-size-multiple", 1, "--num-workers", 0),
    ).stdout
    sources, references = (
        dict(re.findall(rf"^{kind}-(\d+)\t(.*)$", generated, re.M)) for kind in "ST"
    )
    found = defaultdict(list)
    for number, text in re.findall(r"^H-(\d+)\t\S+\t(.*)$", generated, re.M):
        found[number].append(text)
    assert len(found) == SENTENCES
    expected = []
    for number in map(str, range(SENTENCES)):
        reference = references[number].replace("<<unk>>", "<unk>")
        scores = [sentence_chrf(text, [reference]).score for text in found[number]]
        best = found[number][scores.index(max(scores))]
        if "<unk>" not in best:
            expected.append((sources[number], best))
    out = tmp_path / "out"
    distill(
        *(small, "--path", teacher_file, "--destdir", out, *search, *UNFILTERED),
        *("--engine", "fairseq", "--max-tokens", 260),
    )
    sides = [read_split(out, "train", language) for language in ("de", "en")]
    assert list(zip(*sides, strict=True)) == expected and len(expected) > 5


def test_ctranslate2_says_what_fairseqs_generator_says(small, teacher_file, whole, tmp_path):
    distill(*line(small, teacher_file, tmp_path / "out"), "--engine", "fairseq")
    one, other = (read_rows(folder) for folder in (whole, tmp_path / "out"))
    assert one.keys() == other.keys() and len(one) == SENTENCES
    same = [n for n in one if one[n][0][1] == other[n][0][1]]
    assert len(same) > 0.9 * SENTENCES
    # Where the longest is reached fairseq's score has the end of the sentence in it.
    sources = read_split(small, "train", "de")
    ended = [n for n in same if len(one[n][0][1].split()) < len(sources[n - 1].split()) + 6]
    assert len(ended) > 0.5 * SENTENCES
    for n in ended:
        assert math.isclose(one[n][0][0], other[n][0][0], rel_tol=0.01)


def read_rows(folder: Path) -> dict[int, list[tuple[float, str]]]:
    found = defaultdict(list)
    for path in sorted((folder / "translations" / "train").iterdir()):
        for row in path.read_text("utf-8").splitlines():
            number, score, text = row.split("\t")
            found[int(number)].append((float(score), text))
    return found


def test_a_data_bin_says_what_it_is(whole, teacher_file, small):
    record = json.loads((whole / "distill.json").read_text("utf-8"))
    (counts,) = record["kept"].values()
    assert record["pairs"] == len(read_split(whole, "train", "de")) == counts["kept"] > 5
    assert counts.keys() == {"kept", "with unknown types"} and sum(counts.values()) == SENTENCES
    assert record["command"][0] == "python -m ka_fairseq.distill"
    assert record["teacher"] == [str(teacher_file)]
    assert len(record["translations"]["teacher"][0]) == 64
    assert record["translations"]["beam"] == record["translations"]["nbest"] == 3
    assert "torch" in record["versions"]
    for name in ("dict.de.txt", "valid.de-en.en.bin"):
        assert (whole / name).read_bytes() == (small / name).read_bytes()


def test_two_shares_merged_are_the_whole(small, teacher_file, whole, tmp_path, capsys):
    words = line(small, teacher_file, tmp_path / "out")
    distill(*words, "--shard", "2/2")
    with pytest.raises(UserError, match=r"2 files of translations are missing, .*00000\.tsv"):
        distill(*words, "--merge")
    distill(*words, "--shard", "1/2")
    assert "share 1/2 is done" in capsys.readouterr().out
    assert not (tmp_path / "out" / "distill.json").exists()
    distill(*words, "--merge")
    assert contents(tmp_path / "out") == contents(whole)
    distill(*words)
    assert "out: done already" in capsys.readouterr().out


def test_a_killed_run_that_is_resumed_has_the_same_bytes(small, teacher_file, whole, tmp_path):
    out = tmp_path / "out"
    words = [sys.executable, "-m", "ka_fairseq.distill", *line(small, teacher_file, out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    at = killing.Moment("write out/translations/train/00002.tsv.tmp", bytes=100)
    killing.run_and_kill([*map(str, words)], env, tmp_path, at)
    there = [out / "translations" / "train" / f"0000{n}.tsv" for n in (0, 1)]
    before = [path.stat().st_mtime_ns for path in there]
    distill(*line(small, teacher_file, out))
    assert [path.stat().st_mtime_ns for path in there] == before
    assert contents(out) == contents(whole)


def test_a_write_that_is_cut_off_is_done_again(small, teacher_file, whole, tmp_path, monkeypatch):
    words = line(small, teacher_file, tmp_path / "out")
    with monkeypatch.context() as patched:
        read, seen = shards.read, []

        def fail(shard):
            seen.append(shard)
            if len(seen) == 6:  # four are chosen from, one of four is written
                raise OSError(28, "No space left on device")
            return read(shard)

        patched.setattr(shards, "read", fail)
        with pytest.raises(UserError, match="No space left on device; correct that and run"):
            distill(*words)
    assert not list((tmp_path / "out").glob("train.*"))
    distill(*words)
    assert contents(tmp_path / "out") == contents(whole)


def test_samples_are_the_same_however_they_are_shared(small, teacher_file, tmp_path):
    found = []
    for name, shares in (("one", [None]), ("two", ["2/2", "1/2"])):
        folder = tmp_path / name
        for share in shares:
            more = [] if share is None else ["--shard", share]
            words = line(small, teacher_file, folder)
            distill(*words, "--sampling", "--sampling-topp", 0.9, "--choose", "mbr", *more)
        found.append(contents(folder / "translations"))
    assert found[0] == found[1] and len(found[0]) == 5
    rows = read_rows(tmp_path / "one")
    assert sum(len({text for _, text in of}) for of in rows.values()) > 2 * SENTENCES  # they differ


def test_several_teachers_mixtures_and_monolingual_text(small, teacher_file, tmp_path, capsys):
    (tmp_path / "mono").write_text("das ist neu .\n\n", encoding="utf-8")
    distill(
        *line(small, f"{teacher_file}:{teacher_file}", tmp_path / "out"),
        *("--choose", "closest:1,best:2", "--keep-references", 1, "--mono", tmp_path / "mono"),
    )
    printed = capsys.readouterr().out
    assert "CTranslate2 cannot average several models; fairseq's generator" in printed
    assert "1 empty" in printed
    record = json.loads((tmp_path / "out" / "distill.json").read_text("utf-8"))
    closest, best = (record["kept"][name] for name in ("closest", "best"))
    for counts in (closest, best):  # the empty sentence has no translation
        assert sum(counts.values()) == SENTENCES + 2 and counts["without translation"] == 1
    target = read_split(tmp_path / "out", "train", "en")
    assert target[:SENTENCES] == read_split(small, "train", "en")
    assert len(target) == SENTENCES + closest["kept"] + 2 * best["kept"]
    twice = target[SENTENCES + closest["kept"] :]
    assert twice[: best["kept"]] == twice[best["kept"] :]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--beam", 4), r"translations with another beam \(3 there, 4 here\), nbest"),
        (("--path", "nowhere.pt"), "no checkpoint at nowhere.pt: check --path"),
        (("--gen-subset", "test"), "has no split test of de-en"),
        (("--mono", "nowhere"), "--mono nowhere: found no"),
    ],
)
def test_what_is_wrong_is_one_line(small, teacher_file, whole, words, says):
    with pytest.raises(UserError, match=says) as error:
        distill(*line(small, teacher_file, whole), *words)
    assert "\n" not in str(error.value)


def test_a_teacher_of_another_dictionary_is_one_line(small, teacher_file, tmp_path):
    data = shutil.copytree(small, tmp_path / "data")
    for language in ("de", "en"):
        with (data / f"dict.{language}.txt").open("a", encoding="utf-8") as file:
            file.write("more 1\n")
    for engine, says in (
        ("ctranslate2", "has .* types in"),
        ("fairseq", "do not fit the data-bin"),
    ):
        with pytest.raises(UserError, match=says):
            distill(*line(data, teacher_file, tmp_path / engine), "--engine", engine)


@pytest.mark.slow
@pytest.mark.extended  # tests/docs/test_commands.py runs README's own lines
def test_readmes_lines_run_as_they_are_typed(binarized, teacher_file, tmp_path):
    """From a data-bin of plain fairseq-preprocess and a teacher to a folder that translates."""
    for name, target in (("data-bin", binarized), ("teacher.pt", teacher_file)):
        (tmp_path / name).symlink_to(target)
    tiny = "--arch transformer_tiny --optimizer adam --lr 1e-3 --max-tokens 2000 --max-update 4"
    script = f"""
        python -m ka_fairseq.distill data-bin --path teacher.pt --destdir distilled \\
            --max-repeats 0 --beam 2
        fairseq-train distilled {tiny} --cpu --criterion label_smoothed_cross_entropy \\
            --label-smoothing 0 --save-dir student
        fairseq-train distilled --user-dir "$(python -m ka_fairseq)" \\
            --task translation_with_teacher --teacher-path teacher.pt --teacher-data data-bin \\
            --criterion forward_kl {tiny} --cpu --save-dir beside
        python -m ka_fairseq.export student/checkpoint_best.pt de-en/ --to ctranslate2 \\
            --data distilled --no-segmentation
        echo "das ist neu ." | python de-en/translate.py
    """
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": quick_path(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    assert (tmp_path / "beside" / "checkpoint_best.pt").exists()
