"""Every method through fairseq-train and, once, through fairseq-hydra-train; and its export."""

import pytest
import torch
import yaml

from ka_fairseq.criterions.selection import KEY
from ka_fairseq.export import export
from tests.support import (
    USER_DIR,
    records,
    run,
    same_weights,
    succeeded,
    train_together,
    weights,
)

pytestmark = pytest.mark.slow

DIVERGENCES = {
    name: ("transfer", "--divergence", name, *options)
    for name, options in {
        "js": ("--js-beta", 0.3),
        "skew_forward_kl": (),
        "skew_backward_kl": ("--skew-alpha", 0.2, "--temperature", 2),
        "tvd": (),
        "alpha_beta": ("--ab-alpha", 0.2, "--ab-beta", 0.7),
        "adaptive_kl": ("--transfer-weight", 1),
    }.items()
}
CHANGING = {
    "scheduled": (
        *("jsd_mixture", "--transfer-weight-schedule", "linear", "--transfer-weight-to", 1),
        *("--transfer-weight-updates", 8, "--mixture-from", 0, "--mixture-schedule", "cosine"),
        *("--mixture-to", 1, "--mixture-updates", 10),
    ),
    "hard-batch": ("backward_kl", "--select", "hard-batch"),
    # Shorter than what five updates see, so that the window has begun to move.
    "hard-global": ("backward_kl", "--select", "hard-global", "--select-window", 1500),
}
OWN = ("--on-policy-fraction", 0.5, "--on-policy-max-len-b", 5)
VIEWS = {
    "tie_kd": ("tie_kd",),
    "ka_argmax": ("backward_kl", "--views", "argmax"),
    "ka_on_policy": ("backward_kl", *OWN),
    "own_alone": ("backward_kl", *OWN, "--on-policy-fraction", 1),
}
PLAIN = {
    "ka": ("backward_kl",),
    "ka_off": ("backward_kl", "--on-policy-fraction", 0, "--views", "reference"),
}
METHODS = {"js": DIVERGENCES["js"], **CHANGING, **VIEWS, **PLAIN}
OTHER_DIVERGENCES = {name: words for name, words in DIVERGENCES.items() if name != "js"}
COMMON = ("--dropout", 0.1, "--max-update", 12, "--log-interval", 3)
SAME_BATCHES = ("--update-epoch-batch-itr", "True")


@pytest.fixture(scope="module")
def train_each(fine_tuning, tmp_path_factory):
    """Train each method once, with dropout: name → (folder, what the command printed)."""

    def train_each(methods):
        folders = {name: tmp_path_factory.mktemp(name) for name in methods}
        options = [
            fine_tuning(folder, *methods[name], *COMMON, *SAME_BATCHES)
            for name, folder in folders.items()
        ]
        printed = succeeded(train_together(*options))
        return dict(zip(methods, zip(folders.values(), printed, strict=True), strict=True))

    return train_each


@pytest.fixture(scope="module")
def trained(train_each):
    return train_each(METHODS)


def logged(printed, key, kind="train_inner"):
    return [float(record[key]) for record in records(printed, kind) if key in record]


def test_a_divergence_falls(trained):
    assert_it_falls(trained["js"][1])


@pytest.mark.extended
def test_the_other_divergences_fall(train_each):
    for _, printed in train_each(OTHER_DIVERGENCES).values():
        assert_it_falls(printed)


def assert_it_falls(printed):
    transfer = logged(printed, "transfer_loss")
    assert len(transfer) == 4 and 0 < transfer[-1] < transfer[0]
    assert logged(printed, "valid_transfer_loss", "valid")[-1] > 0


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


@pytest.mark.parametrize("name", VIEWS)
def test_what_changes_the_decoders_input_trains_and_says_what_it_did(trained, name):
    folder, printed = trained[name]
    transfer = logged(printed, "transfer_loss")
    assert len(transfer) >= 4 and transfer[-1] < transfer[0]
    assert logged(printed, "valid_transfer_loss", "valid")
    assert logged(printed, "valid_nll_loss", "valid")
    on_policy = name in ("ka_on_policy", "own_alone")
    assert bool(logged(printed, "generate_share")) == on_policy
    assert all(0 <= share < 1 for share in logged(printed, "generate_share"))
    assert bool(logged(printed, "nll_loss")) == (name != "own_alone")
    assert not same_weights(weights(folder), weights(trained["ka"][0]))


def test_without_its_options_nothing_changes(trained):
    assert same_weights(weights(trained["ka_off"][0]), weights(trained["ka"][0]))
    losses = [logged(trained[name][1], "loss") for name in ("ka", "ka_off")]
    assert losses[0] and losses[0] == losses[1]


def test_no_option_and_no_window_is_exported(trained, tmp_path):
    own = ("select", "mixture", "transfer", "js_", "skew_", "ab_", "akl_", "divergence", "view")
    for name in ("js", "tie_kd", "ka_on_policy", *CHANGING):
        export(trained[name][0] / "checkpoint_last.pt", tmp_path / f"{name}.pt")
        exported = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        cfg = exported["cfg"]
        left = {*cfg["task"], *cfg["criterion"], *cfg["model"]}
        owned = (*own, "on_policy", "ranking", "no_ranking")
        assert not [option for option in left if option.startswith(owned)]
        assert KEY not in str(exported.keys()) + str(exported["extra_state"])


def test_a_learner_with_a_window_is_decoded(trained, binarized):
    decoded = run(
        "fairseq-generate",
        *(binarized, "--user-dir", USER_DIR, "--gen-subset", "valid", "--cpu"),
        *("--path", trained["hard-global"][0] / "checkpoint_last.pt", "--beam", 1),
        *("--max-len-b", 3),
    )
    assert "\nH-0\t" in decoded.stdout


def test_fairseq_hydra_train_is_the_same_training(
    trained, binarized, teacher_file, learner_file, tmp_path
):
    """As typed; options of all kinds, from a configuration file."""
    config = {
        "common": {"user_dir": str(USER_DIR), "cpu": True, "seed": 1, "log_format": "json"}
        | {"log_interval": 3},
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
    hydra = run(
        "fairseq-hydra-train",
        *("--config-dir", tmp_path, "--config-name", "scheduled", f"hydra.run.dir={tmp_path}"),
        as_typed=True,
    )
    folder, printed = trained["scheduled"]
    for kind in ("train_inner", "valid"):
        losses = [
            [r[key] for r in records(result, kind) for key in r if key.endswith("loss")]
            for result in (hydra, printed)
        ]
        assert losses[0] and losses[0] == losses[1]
    assert same_weights(weights(tmp_path / "out"), weights(folder))
