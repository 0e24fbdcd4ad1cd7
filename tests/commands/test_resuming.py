"""A training that was cut off and resumed is the uninterrupted one, bit for bit."""

import pytest
import torch

from tests.support import (
    fingerprint,
    language_model,
    records,
    succeeded,
    train_options,
    train_together,
    weights,
)

pytestmark = pytest.mark.slow

UPDATES, CUT = 12, 5
# Without the last, fairseq groups sentences into batches once and keeps the groups for all epochs,
# but groups them anew when it resumes in a later epoch.
COMMON = ("--dropout", 0.1, "--log-interval", 3, "--update-epoch-batch-itr", "True")
OWN = ("--on-policy-fraction", 0.5, "--on-policy-max-len-b", 5)
# Everything that depends on the number of the update, and everything that is kept beside the model;
# a window shorter than what five updates see, so that it has begun to move.
STATEFUL = (
    *("jsd_mixture", "--transfer-weight-schedule", "linear", "--transfer-weight-to", 1),
    *("--transfer-weight-updates", 8, "--mixture-from", 0, "--mixture-schedule", "cosine"),
    *("--mixture-to", 1, "--mixture-updates", 10, *OWN),
    *("--select", "hard-global", "--select-window", 1500),
)


@pytest.fixture
def assert_resumes(tmp_path):
    """Train whole and in two parts: a function of folders and more options → what is given."""

    def assert_resumes(options, cut=CUT):
        whole = options(tmp_path / "whole", "--max-update", UPDATES)
        part = options(tmp_path / "resumed", "--max-update", cut)
        printed, _ = succeeded(train_together(whole, part))
        again = options(tmp_path / "resumed", "--max-update", UPDATES)
        (resumed,) = succeeded(train_together(again))
        assert "Loaded checkpoint" in resumed.stdout
        expected, found = (weights(tmp_path / name) for name in ("whole", "resumed"))
        assert fingerprint(found) == fingerprint(expected)
        # Each is a mean over three updates: of both runs, where the first one ended between.
        losses = [
            {
                int(record["num_updates"]): record["loss"]
                for record in records(result, "train_inner")
            }
            for result in (resumed, printed)
        ]
        later = {update: loss for update, loss in losses[1].items() if update > cut}
        assert later and losses[0] == later
        kept = [
            torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=True)["task_state"]
            for name in ("whole", "resumed")
        ]
        assert kept[0].keys() == kept[1].keys()
        assert all(torch.equal(kept[0][key], kept[1][key]) for key in kept[0])
        return kept[0]

    return assert_resumes


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(CUT, id="in epoch 1"),
        pytest.param(9, id="at its end", marks=pytest.mark.extended),
        pytest.param(10, id="in epoch 2", marks=[pytest.mark.extended, pytest.mark.older]),
    ],
)
def test_schedules_window_and_translations_go_on(fine_tuning, assert_resumes, cut):
    kept = assert_resumes(lambda folder, *end: fine_tuning(folder, *STATEFUL, *COMMON, *end), cut)
    assert [len(window) for window in kept.values()] == [1500]


@pytest.mark.extended
@pytest.mark.parametrize("method", ["tie_kd", "jsd_mixture"])
def test_other_methods_go_on(fine_tuning, assert_resumes, method):
    assert_resumes(lambda folder, *end: fine_tuning(folder, method, *COMMON, *end))


@pytest.mark.extended
def test_a_language_model_goes_on(running_text, lm_teacher_file, assert_resumes):
    def options(folder, *end):
        return train_options(
            *(running_text, folder, "--task", "language_modeling_with_teacher"),
            *("--tokens-per-sample", 32, *language_model(), "--required-batch-size-multiple", 1),
            *("--teacher-path", lm_teacher_file, "--criterion", "backward_kl", *COMMON, *end),
        )

    assert_resumes(options)


@pytest.mark.extended
@pytest.mark.parametrize("method", [("tie_kd",), STATEFUL], ids=["tie_kd", "stateful"])
def test_the_same_command_again_is_the_same_run(fine_tuning, tmp_path, method):
    end = ("--max-update", UPDATES)
    succeeded(
        train_together(
            *(fine_tuning(tmp_path / name, *method, *COMMON, *end) for name in ("one", "again"))
        )
    )
    assert fingerprint(weights(tmp_path / "one")) == fingerprint(weights(tmp_path / "again"))
