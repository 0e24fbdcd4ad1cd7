"""Methods that change what the decoder reads, through fairseq-train: TIE-KD, argmax, on-policy."""

import pytest
import torch

from ka_fairseq.export import export
from tests.support import (
    fingerprint,
    records,
    same_weights,
    succeeded,
    train_options,
    train_together,
    weights,
)

pytestmark = pytest.mark.slow

KA = ("--criterion", "backward_kl")
OWN = ("--on-policy-fraction", 0.5, "--on-policy-max-len-b", 5)
METHODS = {
    "tie_kd": ("--criterion", "tie_kd"),
    "ka_argmax": (*KA, "--views", "argmax"),
    "ka_on_policy": (*KA, *OWN),
    "own_alone": (*KA, *OWN, "--on-policy-fraction", 1),
    "ka": KA,
    "ka_off": (*KA, "--on-policy-fraction", 0, "--views", "reference"),
}
RESUMED = ("tie_kd", "ka_on_policy")


@pytest.fixture(scope="module")
def options(binarized, teacher_file, learner_file):
    """What fairseq-train is given; with dropout, so that random numbers matter."""

    def options(folder, *arguments):
        return train_options(
            binarized,
            folder,
            *("--task", "translation_with_teacher", "--teacher-path", teacher_file),
            *("--finetune-from-model", learner_file, "--arch", "transformer_tiny"),
            *("--dropout", 0.1, "--max-update", 12, "--log-interval", 3),
            *("--update-epoch-batch-itr", "True", *arguments),
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


@pytest.mark.parametrize("name", ["tie_kd", "ka_argmax", "ka_on_policy", "own_alone"])
def test_it_trains_and_says_what_it_did(trained, name):
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


def test_a_run_continued_is_the_run_uninterrupted(trained, options, tmp_path):
    """Bit for bit; and the same command again is the same run."""
    cut = [options(tmp_path / name, *METHODS[name], "--max-update", 5) for name in RESUMED]
    again = [options(tmp_path / f"{name}-again", *METHODS[name]) for name in RESUMED]
    succeeded(train_together(*cut, *again))
    printed = succeeded(
        train_together(*(options(tmp_path / name, *METHODS[name]) for name in RESUMED))
    )
    for name, result in zip(RESUMED, printed, strict=True):
        folder, whole = trained[name]
        expected = fingerprint(weights(folder))
        assert fingerprint(weights(tmp_path / f"{name}-again")) == expected
        assert fingerprint(weights(tmp_path / name)) == expected
        assert logged(result, "loss")[-1] == logged(whole, "loss")[-1]


def test_no_option_of_the_methods_is_exported(trained, tmp_path):
    for name in RESUMED:
        export(trained[name][0] / "checkpoint_last.pt", tmp_path / f"{name}.pt")
        cfg = torch.load(tmp_path / f"{name}.pt", weights_only=True)["cfg"]
        left = {*cfg["task"], *cfg["criterion"], *cfg["model"]}
        methods = ("view", "on_policy", "ranking", "no_ranking")
        assert not [option for option in left if option.startswith(methods)]
