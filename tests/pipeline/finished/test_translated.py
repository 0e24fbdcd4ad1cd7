"""A teacher's translations as text to train on, through the pipeline's real command lines."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from pipeline.engine import files, state
from pipeline.models import training_log

from tests import killing
from tests.databins import read_split, write_split
from tests.pipeline.project import BINARIZED, Project, environment

pytestmark = [pytest.mark.slow, pytest.mark.extended]

SHARDS = 5  # of 600 sentences


def copied(finished: Project, runs: str, *more: str) -> Project:
    """A run folder with what `translate` needs, and more; nothing is translated yet."""
    teacher = [f"teacher/{name}.pt" for name in ("checkpoint_best", "checkpoint_last", "model")]
    states = ("state/teacher.json", "state/learner.json", "state/cache.teacher.json")
    return finished.copied(runs, *BINARIZED, *states, *teacher, *more)


def shards(project: Project, translator: str = "teacher") -> dict[str, bytes]:
    folder = project.run_dir / "translated" / translator / "train"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_learner_on_translations_has_a_cache_of_the_teachers_answers_to_them(finished):
    further = finished.copied("runs further on translations")
    further.pipeline("seq_kd_ka", "--jobs", 1)
    assert (further.run_dir / "teacher" / "cache-best" / "teacher.json").exists()
    records = training_log.read(further.log("seq_kd_ka"))
    assert any("transfer_loss" in record for record in records)
    assert (further.run_dir / "seq_kd_ka" / "model.pt").exists()


def test_the_log_has_how_fast_translations_are_made_and_the_time_left(finished):
    bar = r"translating: .*/600 \[\d+:\d+<\d+:\d+, +[\d.]+ sentences/s\]"
    assert re.search(bar, finished.log("translate.teacher").read_text("utf-8"))
    assert len(shards(finished)) == SHARDS


def test_a_kill_loses_one_shard_and_changes_nothing(finished):
    killed = copied(finished, "runs that are killed while they translate")
    command = killed.command("translate", "--jobs", 1)
    at = killing.Moment("write translated/teacher/train/00002.tsv.tmp", bytes=200)
    killing.run_and_kill(command, environment(), killed.run_dir, at)
    there = [f"0000{n}.tsv" for n in (0, 1)]
    assert [name for name in shards(killed) if name.endswith(".tsv")] == there
    folder = killed.run_dir / "translated" / "teacher" / "train"
    before = [(folder / name).stat().st_mtime_ns for name in there]
    printed = killed.pipeline("translate")
    assert "translate.teacher: CTranslate2 (float32) translates 360 of 600 sentences" in printed
    assert "translate.teacher: 0 empty, 0 too long" in printed
    assert [(folder / name).stat().st_mtime_ns for name in there] == before
    assert shards(killed) == shards(finished)
    assert "translate.teacher: done already" in killed.pipeline("translate")


def test_two_jobs_share_the_work(finished):
    shared = copied(finished, "runs of two jobs")
    jobs = [
        subprocess.Popen(
            shared.command("translate", "--shard", f"{n}/2"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for n in (1, 2)
    ]
    printed = [job.communicate() for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], printed
    assert "translates 360 of 360 sentences" in printed[0][0]
    assert shards(shared) == shards(finished)
    assert not state.is_done(shared.run_dir, "translate.teacher")
    shared.pipeline("translate")
    assert state.is_done(shared.run_dir, "translate.teacher")


def test_two_jobs_share_the_cache(finished):
    shared = copied(finished, "runs of two jobs that fill a cache")
    (shared.run_dir / "state" / "cache.teacher.json").unlink()
    told = [shared.pipeline("cache.teacher", "--shard", f"{n}/2") for n in (2, 1)]
    assert "cache.teacher: share 2 of 2 is done; when all shares are" in told[0]
    assert not state.is_done(shared.run_dir, "cache.teacher")
    shared.pipeline("cache.teacher")
    assert state.is_done(shared.run_dir, "cache.teacher")
    for name, new in (("cache.teacher.1-of-2", 600), ("cache.teacher", 0)):
        assert f"train-0: {new} of 600 pairs answered" in shared.log(name).read_text("utf-8")


def test_fairseq_generate_says_the_same(finished, tmp_path):
    other = copied(finished, "runs by fairseq-generate")
    other = other.configured(tmp_path, {}, translate={"engine": "fairseq-generate"})
    shorten(other, 100, first="")
    printed = other.pipeline("translate")
    assert "fairseq's generator translates 100 of 100 sentences" in printed
    assert "translate.teacher: 1 empty" in printed
    found, expected = (best(project) for project in (other, finished))
    assert found.keys() == set(range(2, 101))
    same = [found[line] == expected[line] for line in found]
    assert sum(same) > 0.9 * len(same)


def test_an_ensemble_translates_and_teaches(finished, tmp_path):
    other = copied(finished, "runs with an ensemble", "learner")
    entry = {"start": "learner", "teacher": "teacher+learner", "config": "kd"}
    entry |= {"text": {"best": 1, "mbr_samples": 1}}
    other = other.configured(tmp_path, {"both": entry}, translate={"sampling": {"samples": 3}})
    shorten(other, 50)
    printed = other.pipeline("both", "--jobs", 1)
    assert "CTranslate2 cannot average several models; fairseq's generator translates" in printed
    folders = [other.run_dir / "translated" / f"teacher+learner{end}" for end in ("", ".samples")]
    counts = [len(files.read_lines(folder / "train" / "00000.tsv")) for folder in folders]
    assert counts == [50 * 2, 50 * 3]
    cache = other.run_dir / "teacher+learner" / "cache-best-mbr_samples-of-teacher+learner"
    assert (cache / "teacher.json").exists()
    teachers = [str(other.run_dir / name / "checkpoint_best.pt") for name in ("teacher", "learner")]
    log = other.log("both").read_text(encoding="utf-8")
    assert f"frozen teacher: {':'.join(teachers)} " in log
    assert (other.run_dir / "both" / "model.pt").exists()


def test_samples_are_the_same_however_the_work_is_shared(finished, tmp_path):
    drawn = []
    for name, first, then in (
        ("one", [], "text.mbr_samples"),
        ("two", ["--shard", "2/2"], "translate.teacher.samples"),
    ):
        other = copied(finished, f"runs of {name} that draw")
        entry = {"config": "learner", "text": "mbr_samples"}
        other = other.configured(
            tmp_path / name, {"drawn": entry}, translate={"sampling": {"samples": 4}}
        )
        if first:
            other.pipeline("translate.teacher.samples", *first)
        other.pipeline(then)
        drawn.append(shards(other, "teacher.samples"))
        rows = drawn[-1]["00000.tsv"].decode("utf-8").splitlines()
        texts = {tuple(row.split("\t")[::2]) for row in rows}
        assert len(rows) % 4 == 0 and len(texts) > 0.8 * len(rows)  # they differ
        text = other.run_dir / "texts" / "mbr_samples" / "train.de-en.en.bin"
        assert text.exists() == (then == "text.mbr_samples")
    assert drawn[0] == drawn[1] and len(drawn[0]) == SHARDS
    assert len({content.split(b"\t", 1)[1] for content in drawn[0].values()}) == SHARDS


def test_the_engines_are_compared(finished):
    """With so many sentences that the slowest engine's speed is told; how: test_engine_speed.py."""
    words = finished.command("--sentences", 200, "--threads", 1)[1:]
    printed = finished.script(*words, script="engines.sh")
    rows = [line.split("|")[1:-1] for line in printed.splitlines() if line.startswith("|")][2:]
    float32, int8, generate = ([cell.strip() for cell in row] for row in rows)
    assert [float32[0], int8[0]] == ["ctranslate2, float32", "ctranslate2, int8"]
    assert generate[0] == "fairseq-generate" and generate[-1] == "200 of 200"
    assert int(float32[-1].split()[0]) > 180
    assert all(float(figure) > 0 for figure in generate[1:-1])
    assert all(float(row[-2]) > 0 for row in (float32, int8))


def shorten(project: Project, sentences: int, *, first: str | None = None) -> None:
    """Leave so many pairs of the training text, the first with another source perhaps."""
    folder = project.run_dir / "bin"
    sides = {lang: read_split(folder, "train", lang)[:sentences] for lang in ("de", "en")}
    if first is not None:
        sides["de"][0] = first
    write_split(folder, "train", sides)


def best(project: Project) -> dict[int, str]:
    rows = [line.split("\t") for line in first_shard(project).read_text("utf-8").splitlines()]
    return {int(line): text for line, _, text in reversed(rows)}


def first_shard(project: Project) -> Path:
    return project.run_dir / "translated" / "teacher" / "train" / "00000.tsv"
