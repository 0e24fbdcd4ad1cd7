"""A teacher's translations as text to train on, through the pipeline's real command lines."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from pipeline import files, state, training_log

from tests import killing
from tests.pipeline.project import Project, environment, run

pytestmark = pytest.mark.slow

SHARDS = 5  # of 600 sentences


def copied(finished: Project, runs: str) -> Project:
    """A run folder with what `translate` needs."""
    project = replace(finished, runs=runs)
    for name in ("bin", "text", "teacher", "state"):
        ignored = shutil.ignore_patterns("cache", "checkpoint[0-9]*")
        shutil.copytree(finished.run_dir / name, project.run_dir / name, ignore=ignored)
    return project


def shards(project: Project) -> dict[str, bytes]:
    folder = project.run_dir / "translated" / "teacher" / "train"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def translated(finished) -> Project:
    """Everything up to a learner from scratch on the best, and its fine-tuning on them by KA."""
    project = copied(finished, "runs with translations")
    printed = project.pipeline("seq_kd", "seq_kd_ka", "--jobs", 1)
    assert "translate.teacher: CTranslate2 (float32) translates 600 of 600 sentences" in printed
    assert "sentences/s; the other 480 will take about" in printed
    assert "translate.teacher: 0 empty, 0 too long" in printed
    return project


def test_learners_are_trained_on_the_translations(translated):
    folder = translated.run_dir / "texts" / "best"
    counts = [len(files.read_lines(folder / "segmented" / f"train.{end}")) for end in ("de", "en")]
    facts = state.read(translated.run_dir, "text.best").facts
    assert counts == [facts["pairs"]] * 2 and 0 < counts[0] < 600  # garbage is left out
    assert len(shards(translated)) == SHARDS
    for name in ("seq_kd", "seq_kd_ka"):
        log = translated.log(name).read_text(encoding="utf-8")
        assert f"{folder} train de-en {counts[0]} examples" in log
        assert (translated.run_dir / name / "model.pt").exists()
    assert (translated.run_dir / "teacher" / "cache-best" / "teacher.json").exists()
    records = training_log.read(translated.log("seq_kd_ka"))
    assert any("transfer_loss" in record for record in records)
    dictionaries = [translated.run_dir / part / "dict.en.txt" for part in ("bin", "texts/best")]
    assert dictionaries[0].read_bytes() == dictionaries[1].read_bytes()
    for name in ("valid.de-en.en.bin", "valid.de-en.en.idx"):
        assert (folder / name).read_bytes() == (translated.run_dir / "bin" / name).read_bytes()


def test_a_kill_loses_one_shard_and_changes_nothing(finished, translated):
    killed = copied(finished, "runs that are killed while they translate")
    command = killed.command("translate", "--jobs", 1)
    at = killing.Moment("write translated/teacher/train/00002.tsv.tmp", bytes=200)
    killing.run_and_kill(command, environment(), killed.run_dir, at)
    there = [f"0000{n}.tsv" for n in (0, 1)]
    assert [name for name in shards(killed) if name.endswith(".tsv")] == there
    folder = killed.run_dir / "translated" / "teacher" / "train"
    before = [(folder / name).stat().st_mtime_ns for name in there]
    assert "translates 360 of 600 sentences" in killed.pipeline("translate")
    assert [(folder / name).stat().st_mtime_ns for name in there] == before
    assert shards(killed) == shards(translated)
    assert "translate.teacher: done already" in killed.pipeline("translate")


def test_two_jobs_share_the_work(finished, translated):
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
    assert shards(shared) == shards(translated)
    assert not state.is_done(shared.run_dir, "translate.teacher")
    shared.pipeline("translate")
    assert state.is_done(shared.run_dir, "translate.teacher")


def test_fairseq_generate_says_the_same(finished, translated, tmp_path):
    configs = tmp_path / "configs"
    shutil.copytree(finished.configs, configs)
    path = configs / "pair.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["quick"]["translate"]["engine"] = "fairseq-generate"
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
    other = copied(finished, "runs by fairseq-generate")
    segmented = other.run_dir / "bin" / "segmented" / "train.de"
    files.write_lines(segmented, ["", *files.read_lines(segmented)[1:100]])
    words = other.command("translate")
    words[words.index(str(finished.configs))] = str(configs)
    result = run(words)
    assert result.returncode == 0, result.stderr
    assert "fairseq-generate translates 100 of 100 sentences" in result.stdout
    assert "translate.teacher: 1 empty" in result.stdout
    found, expected = (best(project) for project in (other, translated))
    assert found.keys() == set(range(2, 101))
    same = [found[line] == expected[line] for line in found]
    assert sum(same) > 0.9 * len(same)


def best(project: Project) -> dict[int, str]:
    rows = [line.split("\t") for line in first_shard(project).read_text("utf-8").splitlines()]
    return {int(line): text for line, _, text in reversed(rows)}


def first_shard(project: Project) -> Path:
    return project.run_dir / "translated" / "teacher" / "train" / "00000.tsv"
