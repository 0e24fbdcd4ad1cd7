"""A model goes on from whatever there is: plain fairseq's, another criterion's, an average.

Every step is a run of fairseq-train on what the step before it wrote.
"""

import pytest
import torch

from tests.support import USER_DIR, records, run, succeeded, train_options, train_together, weights

pytestmark = pytest.mark.slow

SHORT = ("--max-update", 4, "--log-interval", 1)
PLAIN = ("--task", "translation", "--criterion", "label_smoothed_cross_entropy")


@pytest.fixture(scope="module")
def with_teacher(teacher_file, binarized):
    def with_teacher(criterion, teacher=teacher_file):
        return (
            *("--task", "translation_with_teacher", "--teacher-path", teacher),
            *("--criterion", criterion, "--teacher-data", binarized),
        )

    return with_teacher


def without_user_dir(options):
    place = options.index("--user-dir")
    return options[:place] + options[place + 2 :]


@pytest.fixture(scope="module")
def fine_tuned(fine_tuning, tmp_path_factory):
    """A learner of plain fairseq-train, fine-tuned; three checkpoints of it."""
    folder = tmp_path_factory.mktemp("fine-tuned")
    kept = ("--save-interval-updates", 1)
    succeeded(train_together(fine_tuning(folder, "jsd_mixture", *SHORT, *kept)))
    return folder


def nll(result):
    """The NLL of each update, in bits a token."""
    return [float(record["nll_loss"]) for record in records(result, "train_inner")]


@pytest.mark.extended
def test_a_learner_of_plain_fairseq_is_fine_tuned(
    fine_tuned, fine_tuning, binarized, with_teacher, learner_file, tmp_path
):
    """It starts where the learner ended: better than a model that has learned nothing."""
    scratch, going_on = succeeded(
        train_together(
            train_options(
                *(binarized, tmp_path / "scratch", *with_teacher("jsd_mixture"), *SHORT),
                "--no-save",
            ),
            fine_tuning(tmp_path / "going on", "jsd_mixture", *SHORT, "--no-save"),
        )
    )
    assert nll(going_on)[0] < nll(scratch)[0] - 1
    before = torch.load(learner_file, weights_only=True)["model"]
    after = weights(fine_tuned)
    projection = "decoder.output_projection.weight"
    assert before.keys() == after.keys()
    assert not torch.equal(before[projection], after[projection])


def test_a_fine_tuned_learner_goes_on_with_anything(fine_tuned, binarized, with_teacher, tmp_path):
    """Another criterion, no teacher (λ = 0), another task, and plain fairseq after export."""
    last = fine_tuned / "checkpoint_last.pt"
    exported = tmp_path / "exported.pt"
    run("python", "-m", "ka_fairseq.export", last, exported)
    from_last = ("--finetune-from-model", last)
    runs = {
        "another criterion": (*with_teacher("topk_kl"), *from_last),
        "without teacher": (
            *("--task", "translation_with_teacher", "--criterion", "backward_kl"),
            *("--transfer-weight", 0, *from_last),
        ),
        "plain task": (*PLAIN, *from_last),
        "plain fairseq": (*PLAIN, "--finetune-from-model", exported),
        # The optimizer's state is of no use to another criterion: fairseq asks for this.
        "optimizer reset": (
            *(*with_teacher("forward_kl"), "--restore-file", last, "--max-update", 8),
            *("--reset-optimizer", "--reset-lr-scheduler"),
        ),
        "nothing reset": (*with_teacher("forward_kl"), "--restore-file", last),
    }
    commands = {
        name: train_options(binarized, tmp_path / name, *SHORT, *arguments)
        for name, arguments in runs.items()
    }
    commands["plain fairseq"] = without_user_dir(commands["plain fairseq"])
    *went_on, refused = train_together(*commands.values())
    succeeded(went_on)
    # Each starts from the same weights, with the same batch first.
    starts = [nll(result)[0] for result in went_on[:4]]
    assert starts == pytest.approx([starts[0]] * 4, abs=2e-3)
    assert nll(went_on[0])[-1] != nll(went_on[1])[-1]
    assert nll(went_on[1]) == nll(went_on[2]) == nll(went_on[3])
    assert nll(went_on[4])
    assert refused.returncode != 0
    assert "--reset-optimizer" in refused.stderr
    assert not nll(refused)


@pytest.mark.extended
def test_averaged_checkpoints_are_learner_and_teacher(
    fine_tuned, binarized, with_teacher, tmp_path
):
    """Averaged as fairseq's scripts/average_checkpoints.py does, which pip does not install."""
    parts = sorted(fine_tuned.glob("checkpoint_*_*.pt"))
    assert len(parts) >= 3
    states = [torch.load(part, weights_only=True) for part in parts]
    averaged = tmp_path / "averaged.pt"
    mean = {
        name: torch.stack([state["model"][name] for state in states]).mean(0)
        for name in states[0]["model"]
    }
    torch.save(states[-1] | {"model": mean}, averaged)

    from_average = ("--finetune-from-model", averaged)

    def options(folder, *arguments):
        return train_options(binarized, tmp_path / folder, *SHORT, *arguments)

    as_learner, as_teacher, as_both = succeeded(
        train_together(
            options("learner", *with_teacher("backward_kl"), *from_average),
            options("teacher", *with_teacher("backward_kl", averaged)),
            options("both", *with_teacher("backward_kl", averaged), *from_average),
        )
    )
    assert nll(as_learner)[0] == pytest.approx(nll(as_both)[0], abs=2e-3)
    transfers = [float(record["transfer_loss"]) for record in records(as_both, "train_inner")]
    assert transfers[0] == 0 < transfers[-1]
    assert float(records(as_teacher, "train_inner")[0]["transfer_loss"]) > 0.1
    decoded = run(
        "fairseq-generate",
        *(binarized, "--user-dir", USER_DIR, "--path", averaged, "--gen-subset", "valid"),
        *("--cpu", "--beam", 1, "--max-len-b", 3),
    )
    assert "\nH-0\t" in decoded.stdout
