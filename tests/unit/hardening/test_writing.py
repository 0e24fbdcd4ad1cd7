"""Checkpoints are written whole or not at all, whatever happens while fairseq writes them."""

import errno
import pickle
from pathlib import Path

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from ka_fairseq.errors import UserError
from ka_fairseq.hardening import writing
from tests import killing

OLD, NEW = {"model": torch.zeros(100_000)}, {"model": torch.ones(100_000)}


def save(path, _):
    checkpoint_utils.torch_persistent_save(NEW, str(path))


def copy(path, best):
    PathManager.copy(str(best), str(path), overwrite=True)


@pytest.fixture
def last(tmp_path):
    """A checkpoint that is about to be replaced."""
    path = tmp_path / "checkpoint_last.pt"
    torch.save(OLD, path)
    return path


def holds(path: Path, state) -> bool:
    return torch.equal(torch.load(path, weights_only=True)["model"], state["model"])


@pytest.mark.extended
@pytest.mark.parametrize("action", [save, copy], ids=["written", "copied"])
@pytest.mark.parametrize("size", [1, 200_000, None], ids=["begun", "half done", "not yet renamed"])
def test_killed_in_the_middle_the_previous_one_stays(last, tmp_path, action, size):
    best = tmp_path / "checkpoint_best.pt"
    torch.save(NEW, best)
    event = "write checkpoint_last.pt.tmp" if size else "rename checkpoint_last.pt.tmp"
    killing.fork_and_kill(action, [last, best], tmp_path, killing.Moment(event, size))
    assert holds(last, OLD)


def test_a_full_disk_is_one_line_and_leaves_nothing(last, monkeypatch):
    def write(state, file):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", write)
    with pytest.raises(UserError, match=r"checkpoint_last\.pt cannot be written: No space left"):
        checkpoint_utils.torch_persistent_save(NEW, str(last))
    assert holds(last, OLD)
    assert [file.name for file in last.parent.iterdir()] == [last.name]


def test_a_full_disk_while_it_is_copied(last, tmp_path, monkeypatch):
    def copy(source, target):
        Path(target).write_bytes(b"half of it")
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(writing.shutil, "copyfile", copy)
    with pytest.raises(UserError, match="Disk quota exceeded"):
        PathManager.copy(str(tmp_path / "other.pt"), str(last), overwrite=True)
    assert holds(last, OLD)


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_disk_that_stumbles_gets_a_whole_file(last, monkeypatch, failures):
    """fairseq writes the second try behind what the first one left, and nobody can read it."""
    save, left = torch.save, [failures]

    def write(state, file):
        if left[0]:
            left[0] -= 1
            file.write(b"half of it")
            raise OSError(errno.ESTALE, "Stale file handle")
        save(state, file)

    monkeypatch.setattr(torch, "save", write)
    monkeypatch.setattr(writing.time, "sleep", lambda seconds: None)
    if failures <= len(writing.RETRIES):
        checkpoint_utils.torch_persistent_save(NEW, str(last))
        assert holds(last, NEW)
    else:
        with pytest.raises(UserError, match="Stale file handle"):
            checkpoint_utils.torch_persistent_save(NEW, str(last))
        assert holds(last, OLD)


def test_what_is_no_fault_of_the_disk_is_told_as_it_is(last):
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        checkpoint_utils.torch_persistent_save({"model": lambda: None}, str(last))
    assert holds(last, OLD)
