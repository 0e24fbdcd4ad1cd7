"""A full disk: one line that says so, nothing lost, and on it goes when there is room again."""

from __future__ import annotations

import contextlib
import functools
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import killing
from tests.pipeline.comparing import assert_same_losses, assert_same_parameters
from tests.pipeline.project import BINARIZED, environment, error_of, run

pytestmark = [pytest.mark.slow, pytest.mark.extended]


def no_file_beyond(size: int) -> None:
    """What a quota does, for anybody: writing fails where a file has grown to this size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A disk of `size` bytes at `folder`."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    result = subprocess.run(mount, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"no disk can be mounted here: {result.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def grow(folder: Path, size: int) -> None:
    """Make room on a small disk."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_resumes(finished, fine_tuned, folder: Path, said: str) -> None:
    said += finished.fine_tune(folder)
    assert_same_losses(said, fine_tuned.printed)
    assert_same_parameters(folder / "checkpoint_last.pt", fine_tuned.folder / "checkpoint_last.pt")


def test_fairseq_train_beyond_its_quota(finished, fine_tuned, tmp_path):
    folder = tmp_path / "learner"
    command = finished.fine_tuning(folder)
    at = killing.Moment("write checkpoint_1_12.pt.tmp @12")
    said = killing.run_and_kill(command, environment(), folder, at)
    before = contents(folder)
    result = run(command, functools.partial(no_file_beyond, 200_000))
    line = error_of(result)
    assert "checkpoint_1_12.pt cannot be written: File too large" in line
    assert contents(folder) == before
    assert_resumes(finished, fine_tuned, folder, said + result.stdout)


@pytest.mark.parametrize("room", [2.5, 3.5], ids=["while it is copied", "while it is written"])
def test_fairseq_train_on_a_small_disk(finished, fine_tuned, tmp_path, room):
    size = (fine_tuned.folder / "checkpoint_last.pt").stat().st_size
    folder = tmp_path / "learner"
    with small_disk(folder, int(room * size)):
        result = run(finished.fine_tuning(folder))
        assert "cannot be written: No space left on device" in error_of(result)
        files = list(folder.iterdir())
        assert len(files) == int(room)
        for file in files:
            assert torch.load(file, weights_only=True)["model"]
        grow(folder, 20 * size)
        assert_resumes(finished, fine_tuned, folder, result.stdout)


def test_the_pipeline_beyond_its_quota(finished):
    project = replace(finished, runs="runs with a quota")
    result = run(project.command("prepare"), functools.partial(no_file_beyond, 20_000))
    assert "stage prepare failed: File too large: free some room" in error_of(result)
    project.pipeline("prepare")
    for split in ("train", "valid", "test"):
        name = f"text/{split}.de"
        assert (project.run_dir / name).read_bytes() == (finished.run_dir / name).read_bytes()


def test_the_pipeline_on_a_small_disk(finished):
    project = replace(finished, runs="small disk")
    size = (finished.run_dir / "learner" / "checkpoint_last.pt").stat().st_size
    with small_disk(project.run_dir, 10 * size):
        finished.copied(project.runs, *BINARIZED)
        grow(project.run_dir, shutil.disk_usage(project.run_dir).used + int(2.5 * size))
        line = error_of(run(project.command("learner")))
        assert line.startswith("error: stage learner failed: ")
        assert "No space left on device" in line
        grow(project.run_dir, 20 * size)
        assert "learner: going on from its last checkpoint" in project.pipeline("learner")
        for name in ("checkpoint_best.pt", "checkpoint_last.pt", "model.pt"):
            name = f"learner/{name}"
            assert_same_parameters(project.run_dir / name, finished.run_dir / name)
