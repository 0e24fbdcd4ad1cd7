"""Divergences, schedules and selection through fairseq-train and fairseq-hydra-train."""

import pytest
import torch
import yaml

from ka_fairseq.criterions.selection import KEY
from ka_fairseq.export import export
from tests.support import (
    USER_DIR,
    fingerprint,
    records,
    run,
    same_weights,
    succeeded,
    train_options,
    train_together,
    weights,
)

pytestmark = pytest.mark.slow

DIVERGENCES = {
    name: ("--criterion", "transfer", "--divergence", name, *options)
    for name, options in {
        "js": ("--js-beta", 0.3),
        "skew_forward_kl": (),
        "skew_backward_kl": ("--skew-alpha", 0.2, "--temperature", 2),
        "tvd": (),
        "alpha_beta": ("--ab-alpha", 0.2, "--ab-beta", 0.7),
        "adaptive_kl": ("--transfer-weight", 1),
    }.items()
}
HALFWAY = ("--transfer-weight-to", 1, "--transfer-weight-updates", 8)
CHANGING = {
    "scheduled": (
        *("--criterion", "jsd_mixture", "--transfer-weight-schedule", "linear", *HALFWAY),
        *("--mixture-from", 0, "--mixture-schedule", "cosine", "--mixture-to", 1),
        *("--mixture-updates", 10),
    ),
    "hard-batch": ("--criterion", "backward_kl", "--select", "hard-batch"),
    # Shorter than what five updates see, so that the window has begun to move.
    "hard-global": (
        *("--criterion", "backward_kl", "--select", "hard-global", "--select-window", 1500),
    ),
}
RESUMED = ("scheduled", "hard-global")
METHODS = {**DIVERGENCES, **CHANGING, "ka": ("--criterion", "backward_kl")}


@pytest.fixture(scope="module")
def options(binarized, teacher_file, learner_file):
    def options(folder, *arguments):
        return train_options(
            binarized,
            folder,
            *("--task", "translation_with_teacher", "--teacher-path", teacher_file),
            *("--finetune-from-model", learner_file, "--max-update", 12, "--log-interval", 3),
            *("--update-epoch-batch-itr", "True", "--dropout", 0.1, *arguments),
        )

    return options


@pytest.fixture(scope="module")
def trained(options, tmp_path_factory):
    """Each method once: name → (folder, what the command printed)."""
    folders = {name: tmp_path_factory.mktemp(name) for name in METHODS}
    printed = succeeded(
        train_together(*(options(folders[name], *METHODS[name]) for name in METHODS))
    )
    return dict(zip(METHODS, zip(folders.values(), printed, strict=True), strict=True))


def logged(printed, key, kind="train_inner"):
    return [float(record[key]) for record in records(printed, kind) if key in record]


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_divergence_falls(trained, name):
    transfer = logged(trained[name][1], "transfer_loss")
    assert len(transfer) == 4 and 0 < transfer[-1] < transfer[0]
    assert logged(trained[name][1], "valid_transfer_loss", "valid")[-1] > 0


def test_lambda_goes_to_one_and_then_the_loss_is_d(trained):
    folder, printed = trained["scheduled"]
    losses, transfer = logged(printed, "loss"), logged(printed, "transfer_loss")
    assert losses[0] > transfer[0] + 0.1 and losses[-1] == transfer[-1]
    assert logged(printed, "valid_loss", "valid") == logged(printed, "valid_transfer_loss", "valid")
    assert not torch.load(folder / "checkpoint_last.pt", weights_only=True)["task_state"]


@pytest.mark.parametrize("name", ["hard-batch", "hard-global"])
def test_d_is_taken_at_about_half_of_the_positions(trained, name):
    folder, printed = trained[name]
    shares = logged(printed, "hard_share")
    # With a window, all positions of the first update, which has none yet.
    assert all(0.35 < share < 0.65 for share in shares[1:])
    assert (shares[0] > 0.55) == (name == "hard-global")
    assert not logged(printed, "valid_hard_share", "valid")
    assert not same_weights(weights(folder), weights(trained["ka"][0]))
    kept = torch.load(folder / "checkpoint_last.pt", weights_only=True)["task_state"]
    assert [len(window) for window in kept.values()] == [1500] * (name == "hard-global")


def test_a_run_continued_is_the_run_uninterrupted(trained, options, tmp_path):
    """Bit for bit, the window included."""
    for updates in (5, 12):
        continued = succeeded(
            train_together(
                *(
                    options(tmp_path / name, *METHODS[name], "--max-update", updates)
                    for name in RESUMED
                )
            )
        )
    for name, result in zip(RESUMED, continued, strict=True):
        folder, whole = trained[name]
        assert fingerprint(weights(tmp_path / name)) == fingerprint(weights(folder))
        assert logged(result, "loss")[-1] == logged(whole, "loss")[-1]
    ours, theirs = (
        torch.load(folder / "checkpoint_last.pt", weights_only=True)["task_state"][KEY]
        for folder in (tmp_path / "hard-global", trained["hard-global"][0])
    )
    assert torch.equal(ours, theirs)


def test_no_option_and_no_window_is_exported(trained, tmp_path):
    for name in ("js", *CHANGING):
        export(trained[name][0] / "checkpoint_last.pt", tmp_path / f"{name}.pt")
        exported = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        cfg = exported["cfg"]
        left = {*cfg["task"], *cfg["criterion"], *cfg["model"]}
        own = ("select", "mixture", "transfer", "js_", "skew_", "ab_", "akl_", "divergence")
        assert not [option for option in left if option.startswith(own)]
        assert KEY not in str(exported.keys()) + str(exported["extra_state"])


def test_a_learner_with_a_window_is_decoded(trained, binarized):
    run(
        "fairseq-generate",
        *(binarized, "--user-dir", USER_DIR, "--gen-subset", "valid", "--cpu"),
        *("--path", trained["hard-global"][0] / "checkpoint_last.pt", "--beam", 1),
        *("--max-len-b", 3),
    )


def test_fairseq_hydra_train_is_the_same_training(
    trained, binarized, teacher_file, learner_file, tmp_path
):
    """Options of all kinds, from a configuration file."""
    config = {
        "common": {"user_dir": str(USER_DIR), "cpu": True, "seed": 1, "log_format": "json"},
        "task": {"_name": "translation_with_teacher", "data": str(binarized)}
        | {"teacher_path": str(teacher_file)},
        "model": {"_name": "transformer_tiny", "dropout": 0.1},
        "criterion": {"_name": "jsd_mixture", "transfer_weight_schedule": "linear"}
        | {"transfer_weight_to": 1.0, "transfer_weight_updates": 8, "mixture_from": 0.0}
        | {"mixture_schedule": "cosine", "mixture_to": 1.0, "mixture_updates": 10},
        "optimizer": {"_name": "adam"},
        "lr_scheduler": {"_name": "fixed"},
        "optimization": {"lr": [0.002], "max_update": 12},
        "dataset": {"max_tokens": 1000, "num_workers": 0, "update_epoch_batch_itr": True},
        "checkpoint": {"save_dir": str(tmp_path / "out"), "no_epoch_checkpoints": True}
        | {"finetune_from_model": str(learner_file)},
    }
    text = "# @package _global_\n" + yaml.safe_dump(config)
    (tmp_path / "scheduled.yaml").write_text(text, encoding="utf-8")
    run(
        "fairseq-hydra-train",
        *("--config-dir", tmp_path, "--config-name", "scheduled", f"hydra.run.dir={tmp_path}"),
    )
    assert same_weights(weights(tmp_path / "out"), weights(trained["scheduled"][0]))
