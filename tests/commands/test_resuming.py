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


@pytest.fixture(scope="module")
def wholes():
    """Of a method that is resumed more than once: its folder, and what its training printed."""
    return {}


@pytest.fixture
def assert_resumes(tmp_path, wholes):
    """Train whole and in two parts: a function of folders and more options → what is given.

    Two processes make the same updates, so this also shows that the same command is the same run.
    """

    def assert_resumes(name, options, cut=CUT):
        part = options(tmp_path / "resumed", "--max-update", cut)
        if name in wholes:
            succeeded(train_together(part))
        else:
            whole = options(tmp_path / "whole", "--max-update", UPDATES)
            printed, _ = succeeded(train_together(whole, part))
            wholes[name] = tmp_path / "whole", printed
        folder, printed = wholes[name]
        folders = folder, tmp_path / "resumed"
        again = options(tmp_path / "resumed", "--max-update", UPDATES)
        (resumed,) = succeeded(train_together(again))
        assert "Loaded checkpoint" in resumed.stdout
        expected, found = map(weights, folders)
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
            torch.load(folder / "checkpoint_last.pt", weights_only=True)["task_state"]
            for folder in folders
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
    def options(folder, *end):
        return fine_tuning(folder, *STATEFUL, *COMMON, *end)

    kept = assert_resumes("stateful", options, cut)
    assert [len(window) for window in kept.values()] == [1500]


@pytest.mark.extended
def test_tie_kd_goes_on(fine_tuning, assert_resumes):
    assert_resumes("tie_kd", lambda folder, *end: fine_tuning(folder, "tie_kd", *COMMON, *end))


@pytest.mark.extended
def test_a_language_model_goes_on(running_text, lm_teacher_file, assert_resumes):
    def options(folder, *end):
        return train_options(
            *(running_text, folder, "--task", "language_modeling_with_teacher"),
            *("--tokens-per-sample", 32, *language_model(), "--required-batch-size-multiple", 1),
            *("--teacher-path", lm_teacher_file, "--criterion", "backward_kl", *COMMON, *end),
        )

    assert_resumes("language model", options)
