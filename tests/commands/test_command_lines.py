"""The commands that users type, on real text: fairseq-train, -hydra-train, -validate, -generate."""

import re
import shutil
from functools import cache, partial

import pytest
import torch
import yaml

from tests import support
from tests.support import USER_DIR, records, same_weights, train, weights

# As users type them; of the trainings one is, as all start alike.
run = partial(support.run, as_typed=True)
TYPED = "backward_kl"

pytestmark = pytest.mark.slow
# With fairseq 0.12.2, too: what the pipeline, which CI runs with it from end to end, does not do.
older = pytest.mark.older

CRITERIONS = ("forward_kl", "backward_kl", "jsd_mixture", "topk_kl")


@pytest.fixture(scope="module")
def fine_tune(binarized, teacher_file, learner_file):
    def fine_tune(folder, criterion, *arguments, **options):
        return train(
            binarized,
            folder,
            *("--task", "translation_with_teacher", "--teacher-path", teacher_file),
            *("--criterion", criterion, "--restore-file", learner_file),
            *("--reset-optimizer", "--reset-dataloader", "--reset-meters"),
            *("--reset-lr-scheduler", "--max-update", 20, *arguments),
            **options,
        )

    return fine_tune


@pytest.fixture(scope="module")
def fine_tuned(fine_tune, tmp_path_factory):
    """With each criterion that is asked for once: → (folder, what the command printed)."""

    @cache
    def fine_tuned(criterion):
        folder = tmp_path_factory.mktemp(criterion)
        return folder, fine_tune(folder, criterion, as_typed=criterion == TYPED)

    return fine_tuned


# Without it, fairseq groups sentences into batches once and keeps the groups for all epochs, but
# groups them anew when it resumes in a later epoch.
SAME_BATCHES = ("--update-epoch-batch-itr", "True")


@pytest.fixture(scope="module")
def uninterrupted(fine_tune, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, fine_tune(folder, "jsd_mixture", *SAME_BATCHES)


@pytest.fixture(scope="module")
def go_on(binarized, teacher_file):
    """The command that goes on with such a training, to the same end."""

    def go_on(folder):
        teacher = ("--task", "translation_with_teacher", "--teacher-path", teacher_file)
        more = ("--criterion", "jsd_mixture", "--max-update", 20, *SAME_BATCHES)
        return train(binarized, folder, *teacher, *more)

    return go_on


@pytest.mark.parametrize("criterion", CRITERIONS)
def test_the_transfer_loss_falls_and_is_logged_in_training_and_validation(fine_tuned, criterion):
    _, printed = fine_tuned(criterion)
    steps = [float(record["transfer_loss"]) for record in records(printed, "train_inner")]
    assert len(steps) >= 3 and steps[-1] < 0.8 * steps[0]
    valid = records(printed, "valid")[-1]
    for name in ("loss", "nll_loss", "ppl", "transfer_loss", "entropy", "teacher_entropy"):
        assert float(valid[f"valid_{name}"]) >= 0
    loss = 0.5 * float(valid["valid_nll_loss"]) + 0.5 * float(valid["valid_transfer_loss"])
    assert float(valid["valid_loss"]) == pytest.approx(loss, abs=2e-3)


def test_finetune_from_model_starts_the_same_training(
    binarized, teacher_file, learner_file, fine_tuned, tmp_path
):
    folder, _ = fine_tuned("forward_kl")
    train(
        binarized,
        tmp_path,
        *("--task", "translation_with_teacher", "--teacher-path", teacher_file),
        *("--criterion", "forward_kl", "--finetune-from-model", learner_file, "--max-update", 20),
    )
    assert same_weights(weights(tmp_path), weights(folder))


@pytest.mark.parametrize("criterion", CRITERIONS)
def test_checkpoints_hold_the_learner_alone(fine_tuned, learner_file, criterion):
    folder, _ = fine_tuned(criterion)
    ours = torch.load(folder / "checkpoint_best.pt", weights_only=True)
    theirs = torch.load(learner_file, weights_only=True)
    assert ours["model"].keys() == theirs["model"].keys()
    assert not ours["task_state"]
    assert ours.get("criterion") in (None, {})


@older
def test_validating_again_gives_what_training_said(fine_tuned, binarized):
    folder, printed = fine_tuned("backward_kl")
    again = run(
        "fairseq-validate",
        binarized,
        *("--user-dir", USER_DIR, "--path", folder / "checkpoint_last.pt", "--cpu"),
        *("--task", "translation_with_teacher", "--max-tokens", 1000, "--log-format", "json"),
    )
    (said,) = records(again, "valid")
    trained = records(printed, "valid")[-1]
    assert said["valid_transfer_loss"] == trained["valid_transfer_loss"]
    assert said["valid_loss"] == trained["valid_loss"]


@pytest.mark.parametrize("program", ["fairseq-generate", "fairseq-interactive"])
def test_decoding_never_loads_the_teacher(fine_tune, binarized, tmp_path, program, fine_tuned):
    folder, _ = fine_tuned("topk_kl")
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
    decoded = run(program, binarized, *common, *special)
    assert re.search(r"^H-0\t", decoded.stdout, re.MULTILINE)
    teachers = ("--task", "translation_with_teacher")
    again = run(program, binarized, *common, *special, *teachers)
    assert re.findall(r"^H-.*", again.stdout, re.M) == re.findall(r"^H-.*", decoded.stdout, re.M)


def test_lambda_zero_is_fairseqs_own_training(fine_tune, binarized, learner_file, tmp_path):
    smoothing = ("--label-smoothing", 0.1)
    ours = fine_tune(tmp_path / "ours", "backward_kl", "--transfer-weight", 0, *smoothing)
    theirs = train(
        binarized,
        tmp_path / "theirs",
        *("--task", "translation", "--criterion", "label_smoothed_cross_entropy", *smoothing),
        *("--restore-file", learner_file, "--reset-optimizer", "--reset-dataloader"),
        *("--reset-meters", "--reset-lr-scheduler", "--max-update", 20),
    )
    for kind in ("train_inner", "valid"):
        losses = [
            [r[key] for r in records(printed, kind) for key in r if key.endswith("loss")]
            for printed in (ours, theirs)
        ]
        assert losses[0] and losses[0] == losses[1]
    assert same_weights(weights(tmp_path / "ours"), weights(tmp_path / "theirs"))
    assert "frozen teacher" not in ours.stderr


@pytest.mark.parametrize(
    "updates",
    [
        pytest.param(5, id="in epoch 1"),
        pytest.param(9, id="at its end"),
        pytest.param(12, id="in epoch 2", marks=older),
    ],
)
def test_a_run_continued_is_the_run_uninterrupted(
    fine_tune, go_on, tmp_path, uninterrupted, updates
):
    folder, printed = uninterrupted
    fine_tune(tmp_path, "jsd_mixture", *SAME_BATCHES, "--max-update", updates)
    continued = go_on(tmp_path)
    assert same_weights(weights(tmp_path), weights(folder))
    losses = [
        {record["num_updates"]: record["loss"] for record in records(result, "train_inner")}
        for result in (continued, printed)
    ]
    # Each is a mean over five updates: of both runs, where the first one ended between.
    assert losses[0] == {n: loss for n, loss in losses[1].items() if int(n) > updates}


def test_a_finished_run_started_again_stays_as_it_is(go_on, tmp_path, uninterrupted):
    """fairseq itself makes one more update each time."""
    shutil.copytree(uninterrupted[0], tmp_path / "learner")
    before = {path.name: path.read_bytes() for path in (tmp_path / "learner").iterdir()}
    assert "nothing is left to do" in go_on(tmp_path / "learner").stdout
    assert {path.name: path.read_bytes() for path in (tmp_path / "learner").iterdir()} == before


def test_fairseq_train_and_hydra_train_are_the_same_training(
    binarized, teacher_file, learner_file, fine_tuned, tmp_path
):
    """Every setting that the other command line gave, as a configuration file."""
    folder, printed = fine_tuned("backward_kl")
    arguments = torch.load(learner_file, weights_only=True)["cfg"]["model"]
    model = {"_name": "transformer_tiny", "dropout": 0.0}
    assert arguments.dropout == 0
    config = {
        "common": {"user_dir": str(USER_DIR), "cpu": True, "seed": 1, "log_format": "json"}
        | {"log_interval": 5},
        "task": {"_name": "translation_with_teacher", "data": str(binarized)}
        | {"teacher_path": str(teacher_file)},
        "model": model,
        "criterion": {"_name": "backward_kl"},
        "optimizer": {"_name": "adam"},
        "lr_scheduler": {"_name": "fixed"},
        "optimization": {"lr": [0.002], "max_update": 20},
        "dataset": {"max_tokens": 1000, "num_workers": 0},
        "checkpoint": {"save_dir": str(tmp_path / "out"), "no_epoch_checkpoints": True}
        | {"restore_file": str(learner_file), "reset_optimizer": True, "reset_meters": True}
        | {"reset_dataloader": True, "reset_lr_scheduler": True},
    }
    text = "# @package _global_\n" + yaml.safe_dump(config)
    (tmp_path / "ka.yaml").write_text(text, encoding="utf-8")
    hydra = run(
        "fairseq-hydra-train",
        *("--config-dir", tmp_path, "--config-name", "ka", f"hydra.run.dir={tmp_path}"),
    )
    for kind in ("train_inner", "valid"):
        losses = [
            [r[key] for r in records(result, kind) for key in r if key.endswith("loss")]
            for result in (hydra, printed)
        ]
        assert losses[0] and losses[0] == losses[1]
    assert same_weights(weights(tmp_path / "out"), weights(folder))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--teacher-path", "/no/such.pt"), "no checkpoint at /no/such.pt"),
        (("--transfer-weight", 2), "--transfer-weight must lie between 0 and 1"),
        (("--top-k", 100000), "top_k must lie between 0"),
        (("--top-k-form", "other"), "choose from generalized, tail, partial"),
        (("--restore-file", USER_DIR / "__init__.py"), "cannot be read as a fairseq checkpoint"),
    ],
)
def test_bad_input_is_one_line_before_training(fine_tune, tmp_path, arguments, says):
    result = fine_tune(tmp_path, "backward_kl", *arguments, check=False)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and says in last
    assert not records(result, "train_inner")
    assert not list(tmp_path.glob("*.pt"))


def test_a_task_without_a_teacher_is_one_line_before_training(binarized, tmp_path):
    plain = ("--task", "translation", "--criterion", "forward_kl")
    result = train(binarized, tmp_path, *plain, check=False, as_typed=True)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "use --task translation_with_teacher" in result.stderr.strip().splitlines()[-1]
    assert not list(tmp_path.glob("*.pt"))
