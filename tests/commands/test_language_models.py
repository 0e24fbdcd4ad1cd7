"""A language model learns from a larger one through fairseq-train, and fairseq-eval-lm reads it."""

import re

import pytest
import torch

from tests.support import (
    USER_DIR,
    language_model,
    records,
    run,
    same_weights,
    succeeded,
    train_options,
    train_together,
    weights,
)

pytestmark = pytest.mark.slow

TASK = ("--task", "language_modeling_with_teacher", "--tokens-per-sample", 32)


@pytest.fixture(scope="module")
def trained(running_text, lm_teacher_file, tmp_path_factory):
    """A folder of runs and what they printed: without a cache, filling one, and reading it."""
    folder = tmp_path_factory.mktemp("language-models")
    cached = ("--teacher-cache", folder / "cache")

    def options(name, *arguments):
        return train_options(
            *(running_text, folder / name, *TASK, *language_model()),
            *("--teacher-path", lm_teacher_file, "--criterion", "backward_kl"),
            *("--max-update", 20, "--required-batch-size-multiple", 1, *arguments),
        )

    plain, filling = succeeded(train_together(options("plain"), options("filling", *cached)))
    (reading,) = succeeded(train_together(options("reading", *cached)))
    printed = {"plain": plain, "filling": filling, "reading": reading}
    return folder, printed


def test_it_learns_from_the_teacher(trained):
    _, printed = trained
    logged = records(printed["plain"], "train_inner")
    assert float(logged[-1]["transfer_loss"]) < 0.7 * float(logged[0]["transfer_loss"])
    (valid, *_), (*_, last) = records(printed["plain"], "valid"), records(printed["plain"], "valid")
    assert float(last["valid_transfer_loss"]) < float(valid["valid_transfer_loss"])
    assert float(last["valid_teacher_entropy"]) > 0


def test_a_cache_changes_nothing_but_rounding(trained):
    folder, printed = trained
    assert same_weights(weights(folder / "filling"), weights(folder / "reading"))
    losses = {
        name: [float(record["loss"]) for record in records(printed[name], "train_inner")]
        for name in ("plain", "filling", "reading")
    }
    assert losses["filling"] == losses["reading"]
    assert losses["filling"] == pytest.approx(losses["plain"], rel=1e-3)


def test_a_build_has_nothing_to_do_after_a_training(trained, running_text, lm_teacher_file):
    folder, _ = trained
    options = (*TASK, "--teacher-path", lm_teacher_file, "--teacher-cache", folder / "cache")
    result = run("python", "-m", "ka_fairseq.cache", "build", running_text, *options, "--cpu")
    answered = re.findall(r"^(\S+): (\d+) of (\d+) blocks ", result.stdout, re.M)
    assert [(name, new) for name, new, _ in answered] == [("valid-0", "0"), ("train-0", "0")]
    assert all(int(all_) > 30 for *_, all_ in answered)


def test_eval_lm_takes_the_learner_and_its_export_and_no_teacher(trained, running_text, tmp_path):
    folder, _ = trained
    learner, exported = folder / "plain" / "checkpoint_last.pt", tmp_path / "exported.pt"
    state = torch.load(learner, weights_only=True)
    state["cfg"]["task"]["teacher_path"] = "/no/such/teacher.pt"
    torch.save(state, tmp_path / "learner.pt")
    run("python", "-m", "ka_fairseq.export", learner, exported)
    cfg = torch.load(exported, weights_only=True)["cfg"]
    assert cfg["task"]["_name"] == "language_modeling" and "teacher" not in str(cfg)
    asked = (running_text, "--gen-subset", "valid", "--cpu", "--tokens-per-sample", 32)
    said = [
        run("fairseq-eval-lm", *asked, *options)
        for options in (
            ("--path", tmp_path / "learner.pt", "--user-dir", USER_DIR),
            ("--path", exported),
        )
    ]
    losses = [re.findall(r"Loss \(base 2\): \S+", one.stdout + one.stderr) for one in said]
    assert losses[0] == losses[1] and len(losses[0]) == 1
