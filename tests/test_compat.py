"""Checkpoints: what fairseq writes loads, what could run code does not, all told in one line."""

import argparse
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils, models
from fairseq.logging import metrics
from omegaconf import OmegaConf
from sacrebleu.metrics import BLEU

from ka_fairseq import compat
from ka_fairseq.errors import UserError
from tests.support import make_batch, make_model, make_task


class Planted:
    """Unpickling this would create a file."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


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


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before zip"])
def test_a_planted_call_does_not_run(tmp_path, teacher_file, legacy):
    victim = tmp_path / "ran"
    state = torch.load(teacher_file, weights_only=True)
    state["extra_state"]["planted"] = Planted(victim)
    path = tmp_path / "planted.pt"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    message = refused(path)
    assert not victim.exists()
    assert "pathlib" in message or "getattr" in message
    assert compat.TRUSTED_FILE_SWITCH in message


def test_a_trusted_file_can_be_loaded_by_the_switch_that_the_error_names(
    tmp_path, teacher_file, monkeypatch
):
    state = torch.load(teacher_file, weights_only=True)
    state["extra_state"]["own"] = Path("of my own")
    path = tmp_path / "own.pt"
    torch.save(state, path)
    assert "pathlib" in refused(path)
    monkeypatch.setenv(*compat.TRUSTED_FILE_SWITCH.split("="))
    assert load(path)["extra_state"]["own"] == Path("of my own")


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


def test_random_damage_is_an_error_of_one_line_or_does_no_harm(tmp_path, teacher_file):
    random.seed(0)
    whole = teacher_file.read_bytes()
    path = tmp_path / "damaged.pt"
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(random.randint(1, 30)):
            # The pickle is at the front; most of the rest is weights.
            damaged[random.randrange(min(len(whole), 20_000))] = random.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            load(path)
        except UserError as error:
            assert "\n" not in str(error)


def bleu_logs(lengths, counts):
    """What validating a batch logs: translations of some length, n-grams counted and correct."""
    sys_len, ref_len = lengths
    log = {"_bleu_sys_len": sys_len, "_bleu_ref_len": ref_len}
    for n, (count, total) in enumerate(counts):
        log |= {f"_bleu_counts_{n}": count, f"_bleu_totals_{n}": total}
    return log | {"loss": 1.0, "nll_loss": 1.0, "ntokens": 9, "sample_size": 9, "nsentences": 1}


SILENT = bleu_logs((0, 9), [(0, 0)] * 4)
SPOKEN = bleu_logs((10, 9), [(8, 10), (6, 9), (4, 8), (2, 7)])


@pytest.mark.parametrize("batches", [[SILENT], [SILENT, SPOKEN], [SPOKEN, SILENT], [SPOKEN]])
def test_silent_batches_count_in_validation_bleu(binarized, batches):
    task, cfg = make_task(
        binarized, "--eval-bleu", "--criterion", "cross_entropy", "--task", "translation"
    )
    criterion = task.build_criterion(cfg.criterion)
    with metrics.aggregate(new_root=True) as aggregate:
        for batch in batches:
            task.reduce_metrics([batch], criterion)
    expected = 0.0
    if SPOKEN in batches:  # fairseq leaves the references of silent batches out
        expected = BLEU.compute_bleu([8, 6, 4, 2], [10, 9, 8, 7], 10, 9).score
    assert aggregate.get_smoothed_values()["bleu"] == pytest.approx(expected, abs=0.01)


def test_training_logs_no_bleu(binarized):
    task, cfg = make_task(binarized, "--eval-bleu", "--criterion", "cross_entropy")
    with metrics.aggregate(new_root=True) as aggregate:
        log = {"loss": 1.0, "ntokens": 9, "sample_size": 9, "nsentences": 1}
        task.reduce_metrics([log], task.build_criterion(cfg.criterion))
    assert "bleu" not in aggregate.get_smoothed_values()


def test_an_encoder_has_each_of_its_weights_once(binarized):
    """fairseq 0.12.2 keeps copies for a fast path that fails on padding; others know none."""
    task, cfg = make_task(binarized)
    model = make_model(task, cfg)
    layer = "encoder.layers.0."
    names = {name.removeprefix(layer).split(".")[0] for name in model.state_dict() if layer in name}
    assert names == {"self_attn", "self_attn_layer_norm", "fc1", "fc2", "final_layer_norm"}


def test_weights_of_plain_fairseq_0_12_2_load(binarized):
    task, cfg = make_task(binarized)
    model, other = (make_model(task, cfg, seed) for seed in (1, 2))
    theirs = dict(model.state_dict())
    for name in compat.FAST_PATH_COPIES:
        theirs[f"encoder.layers.0.{name}"] = torch.full((3,), float("nan"))
    for side in ("encoder", "decoder"):
        theirs[f"{side}.embed_positions._float_tensor"] = torch.full((1,), float("nan"))
    other.load_state_dict(theirs, strict=True, model_cfg=cfg.model)
    ours, loaded = model.state_dict(), other.state_dict()
    assert ours.keys() == loaded.keys()
    assert all(torch.equal(ours[name], loaded[name]) for name in ours)


def test_padding_changes_nothing_for_a_model_that_was_loaded(binarized):
    task, cfg = make_task(binarized)
    model = make_model(task, cfg)
    model.load_state_dict(model.state_dict(), strict=True, model_cfg=cfg.model)
    model.eval()
    with torch.no_grad():
        padded = model(**make_batch(task, size=4)["net_input"])[0]
        alone = model(**make_batch(task, size=1)["net_input"])[0]
    row = next(
        i
        for i, tokens in enumerate(make_batch(task, size=4)["id"].tolist())
        if tokens == make_batch(task, size=1)["id"].item()
    )
    torch.testing.assert_close(padded[row, : alone.shape[1]], alone[0], atol=1e-5, rtol=0)


def test_an_architecture_in_a_hydra_config_has_its_sizes(binarized):
    task, cfg = make_task(binarized)
    by_name = OmegaConf.create({"_name": "transformer_tiny", "dropout": 0.0})
    model = models.build_model(by_name, task)
    assert model.encoder.embed_tokens.embedding_dim == 64
    named, given = (
        {name: weight.shape for name, weight in m.state_dict().items()}
        for m in (model, make_model(task, cfg))
    )
    assert named == given
