"""The commands that users type, on real text: fairseq-train, -validate, -generate, -interactive."""

import re

import pytest
import torch

from tests.support import (
    USER_DIR,
    records,
    run,
    same_weights,
    succeeded,
    train,
    train_options,
    train_together,
    weights,
)

pytestmark = pytest.mark.slow
# With fairseq 0.12.2, too: what the pipeline, which CI runs with it from end to end, does not do.
older = pytest.mark.older

CRITERIONS = ("forward_kl", "backward_kl", "jsd_mixture", "topk_kl")
TYPED = "backward_kl"


@pytest.fixture(scope="module")
def from_learner(binarized, teacher_file, learner_file):
    """What fairseq-train is given to fine-tune as README has it: by folder, criterion, options."""

    def from_learner(folder, criterion, *arguments):
        return train_options(
            binarized,
            folder,
            *("--task", "translation_with_teacher", "--teacher-path", teacher_file),
            *("--criterion", criterion, "--restore-file", learner_file),
            *("--reset-optimizer", "--reset-dataloader", "--reset-meters"),
            *("--reset-lr-scheduler", "--max-update", 20, *arguments),
        )

    return from_learner


@pytest.fixture(scope="module")
def fine_tuned(from_learner, tmp_path_factory):
    """With each criterion, one as users type it: → (folder, what the command printed)."""
    folders = {name: tmp_path_factory.mktemp(name) for name in CRITERIONS}
    lines = {name: from_learner(folders[name], name) for name in CRITERIONS}
    printed = {TYPED: run("fairseq-train", *lines.pop(TYPED), as_typed=True)}
    printed |= zip(lines, succeeded(train_together(*lines.values())), strict=True)
    return {name: (folders[name], printed[name]) for name in CRITERIONS}


@pytest.mark.parametrize("criterion", CRITERIONS)
def test_the_transfer_loss_falls_and_is_logged_in_training_and_validation(fine_tuned, criterion):
    _, printed = fine_tuned[criterion]
    steps = [float(record["transfer_loss"]) for record in records(printed, "train_inner")]
    assert len(steps) >= 3 and steps[-1] < 0.8 * steps[0]
    valid = records(printed, "valid")[-1]
    for name in ("loss", "nll_loss", "ppl", "transfer_loss", "entropy", "teacher_entropy"):
        assert float(valid[f"valid_{name}"]) >= 0
    loss = 0.5 * float(valid["valid_nll_loss"]) + 0.5 * float(valid["valid_transfer_loss"])
    assert float(valid["valid_loss"]) == pytest.approx(loss, abs=2e-3)


def test_finetune_from_model_starts_the_same_training(fine_tuning, fine_tuned, tmp_path):
    folder, _ = fine_tuned["forward_kl"]
    succeeded(train_together(fine_tuning(tmp_path, "forward_kl", "--max-update", 20)))
    assert same_weights(weights(tmp_path), weights(folder))


@pytest.mark.parametrize("criterion", CRITERIONS)
def test_checkpoints_hold_the_learner_alone(fine_tuned, learner_file, criterion):
    folder, _ = fine_tuned[criterion]
    ours = torch.load(folder / "checkpoint_best.pt", weights_only=True)
    theirs = torch.load(learner_file, weights_only=True)
    assert ours["model"].keys() == theirs["model"].keys()
    assert not ours["task_state"]
    assert ours.get("criterion") in (None, {})


@older
def test_validating_again_gives_what_training_said(fine_tuned, binarized):
    folder, printed = fine_tuned[TYPED]
    again = run(
        "fairseq-validate",
        binarized,
        *("--user-dir", USER_DIR, "--path", folder / "checkpoint_last.pt", "--cpu"),
        *("--task", "translation_with_teacher", "--max-tokens", 1000, "--log-format", "json"),
        as_typed=True,
    )
    (said,) = records(again, "valid")
    trained = records(printed, "valid")[-1]
    assert said["valid_transfer_loss"] == trained["valid_transfer_loss"]
    assert said["valid_loss"] == trained["valid_loss"]


@pytest.mark.parametrize("program", ["fairseq-generate", "fairseq-interactive"])
def test_decoding_never_loads_the_teacher(binarized, tmp_path, program, fine_tuned):
    folder, _ = fine_tuned["topk_kl"]
    state = torch.load(folder / "checkpoint_best.pt", weights_only=True)
    state["cfg"]["task"]["teacher_path"] = "/no/such/teacher.pt"
    torch.save(state, tmp_path / "learner.pt")
    sentences = tmp_path / "sentences"
    sentences.write_text("die datei\n", encoding="utf-8")
    common = ("--user-dir", USER_DIR, "--path", tmp_path / "learner.pt", "--cpu", "--beam", 2)
    special = {
        "fairseq-generate": ("--gen-subset", "valid", "--max-len-b", 3, "--max-tokens", 500),
        "fairseq-interactive": ("--input", sentences, "-s", "de", "-t", "en"),
    }[program]
    decoded = run(program, binarized, *common, *special, as_typed=True)
    assert re.search(r"^H-0\t", decoded.stdout, re.MULTILINE)
    teachers = ("--task", "translation_with_teacher")
    again = run(program, binarized, *common, *special, *teachers)
    assert re.findall(r"^H-.*", again.stdout, re.M) == re.findall(r"^H-.*", decoded.stdout, re.M)


@pytest.mark.extended
def test_lambda_zero_is_fairseqs_own_training(from_learner, binarized, learner_file, tmp_path):
    smoothing = ("--label-smoothing", 0.1)
    ours, theirs = succeeded(
        train_together(
            from_learner(tmp_path / "ours", "backward_kl", "--transfer-weight", 0, *smoothing),
            train_options(
                *(binarized, tmp_path / "theirs", "--task", "translation"),
                *("--criterion", "label_smoothed_cross_entropy", *smoothing),
                *("--restore-file", learner_file, "--reset-optimizer", "--reset-dataloader"),
                *("--reset-meters", "--reset-lr-scheduler", "--max-update", 20),
            ),
        )
    )
    for kind in ("train_inner", "valid"):
        losses = [
            [r[key] for r in records(printed, kind) for key in r if key.endswith("loss")]
            for printed in (ours, theirs)
        ]
        assert losses[0] and losses[0] == losses[1]
    assert same_weights(weights(tmp_path / "ours"), weights(tmp_path / "theirs"))
    assert "frozen teacher" not in ours.stderr


BAD = {
    "no checkpoint at /no/such.pt": ("--teacher-path", "/no/such.pt"),
    "--transfer-weight must lie between 0 and 1": ("--transfer-weight", 2),
    "top_k must lie between 0": ("--top-k", 100000),
    "choose from generalized, tail, partial": ("--top-k-form", "other"),
    "cannot be read as a fairseq checkpoint": ("--restore-file", USER_DIR / "__init__.py"),
    "train with --arch transformer_tiny --decoder-ffn-embed-dim 64 --encoder-ffn-embed-dim 64": (
        *("--encoder-ffn-embed-dim", 48),
    ),
}


def assert_one_line_before_training(result, says, folder):
    assert result.returncode == 1 and "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and says in last
    assert not records(result, "train_inner")
    assert not list(folder.glob("*.pt"))


def test_bad_input_is_one_line_before_training(from_learner, tmp_path):
    folders = [tmp_path / str(number) for number in range(len(BAD))]
    results = train_together(
        *(
            from_learner(folder, "backward_kl", *arguments)
            for folder, arguments in zip(folders, BAD.values(), strict=True)
        )
    )
    for result, says, folder in zip(results, BAD, folders, strict=True):
        assert_one_line_before_training(result, says, folder)


def test_damaged_checkpoints_are_one_line_before_training(
    fine_tuning, binarized, teacher_file, tmp_path
):
    """A teacher, a learner, and the last checkpoint of the run to go on with."""
    damaged, cut_off = tmp_path / "damaged.pt", tmp_path / "cut off"
    whole = teacher_file.read_bytes()
    middle = len(whole) // 2  # of a weight
    damaged.write_bytes(whole[:middle] + bytes([whole[middle] ^ 16]) + whole[middle + 1 :])
    cut_off.mkdir()
    (cut_off / "checkpoint_last.pt").write_bytes(damaged.read_bytes())
    data = ("--teacher-data", binarized)
    results = train_together(
        fine_tuning(tmp_path / "teacher", "forward_kl", *data, teacher=damaged),
        fine_tuning(tmp_path / "learner", "forward_kl", "--finetune-from-model", damaged),
        fine_tuning(cut_off, "forward_kl"),
    )
    (cut_off / "checkpoint_last.pt").unlink()
    for result, name in zip(results, ("teacher", "learner", "cut off"), strict=True):
        assert_one_line_before_training(result, "does not match its checksum", tmp_path / name)


def test_a_task_without_a_teacher_is_one_line_before_training(binarized, tmp_path):
    """As typed: also of what a process prints and returns at its end."""
    plain = ("--task", "translation", "--criterion", "forward_kl")
    result = train(binarized, tmp_path, *plain, check=False, as_typed=True)
    assert_one_line_before_training(result, "use --task translation_with_teacher", tmp_path)
