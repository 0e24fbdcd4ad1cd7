"""Checkpoints: what fairseq writes loads; what is no checkpoint or is foreign is told in one line.

Damaged and hostile files are in test_mutated_checkpoints.py.
"""

import argparse
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils
from omegaconf import OmegaConf

from ka_fairseq.errors import UserError
from ka_fairseq.hardening.reading import TRUSTED_FILE_SWITCH, shape_flags

pytestmark = pytest.mark.older


def load(path):
    return checkpoint_utils.load_checkpoint_to_cpu(str(path))


def refused(path) -> str:
    with pytest.raises(UserError) as error:
        load(path)
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    return message


def test_a_checkpoint_of_fairseq_train_loads(teacher_file):
    state = load(teacher_file)
    assert state["cfg"].model._name == "transformer_tiny"
    assert "model" in torch.load(teacher_file, weights_only=True)


def test_what_older_releases_wrote_loads(tmp_path):
    """args as a Namespace, best scores as numpy scalars, under either name of numpy's module."""
    content = {
        "args": argparse.Namespace(arch="transformer", lr=[0.1]),
        "array": np.arange(3),
        "scalars": [np.float64(0.5), np.int64(3), np.float32(0.25), np.bool_(True)],
    }
    path = tmp_path / "old.pt"
    torch.save(content, path)
    loaded = torch.load(path, weights_only=True)
    assert loaded["args"].arch == "transformer" and loaded["array"].tolist() == [0, 1, 2]
    assert loaded["scalars"] == content["scalars"]

    moved = tmp_path / "numpy1.pkl"
    moved.write_bytes(pickle.dumps(content, protocol=2).replace(b"numpy._core.", b"numpy.core."))
    assert b"numpy.core." in moved.read_bytes()
    unpickled = torch.serialization._weights_only_unpickler.load(moved.open("rb"), encoding="utf-8")
    assert unpickled["scalars"] == content["scalars"]


def test_a_trusted_file_can_be_loaded_by_the_switch_that_the_error_names(
    tmp_path, teacher_file, monkeypatch
):
    state = torch.load(teacher_file, weights_only=True)
    state["extra_state"]["own"] = Path("of my own")
    path = tmp_path / "own.pt"
    torch.save(state, path)
    message = refused(path)
    assert "pathlib" in message and TRUSTED_FILE_SWITCH in message
    monkeypatch.setenv(*TRUSTED_FILE_SWITCH.split("="))
    assert load(path)["extra_state"]["own"] == Path("of my own")


@pytest.mark.parametrize("kind", [lambda cfg: argparse.Namespace(**cfg), OmegaConf.create])
def test_the_flags_that_give_a_model_anothers_shape(kind):
    theirs = {"encoder_layers": 2, "share_all_embeddings": True, "dropout": 0.3, "lr": [1.0]}
    ours = {"encoder_layers": 6, "share_all_embeddings": False, "dropout": 0.1, "lr": [2.0]}
    assert shape_flags(kind(theirs), kind(ours)) == "--encoder-layers 2 --share-all-embeddings"
    assert shape_flags(kind(ours), kind(theirs)) == "--encoder-layers 6"  # a switch has no opposite
    assert shape_flags(kind(ours), kind(ours)) == ""


def test_missing_empty_truncated_and_foreign_files(tmp_path, teacher_file):
    path = tmp_path / "teacher.pt"
    assert "no checkpoint at" in refused(path)
    path.touch()
    assert "cannot be read" in refused(path)
    whole = teacher_file.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "truncated, damaged or another kind of file" in refused(path)
    path.write_text("a sentence\n", encoding="utf-8")
    assert "cannot be read" in refused(path)
    torch.save({"weights": torch.zeros(2)}, path)
    refused(path)
    assert "no checkpoint at" in refused(tmp_path)
