"""A language model distilled from a larger one: the loss, the teachers that fit, fairseq-train."""

import re
import subprocess
import sys

import pytest
import torch

from ka_fairseq import models
from ka_fairseq.errors import UserError
from ka_fairseq.loss.projection import Logits, Projection
from ka_fairseq.tasks.views import with_decoder_input
from tests.support import (
    ROOT,
    USER_DIR,
    language_model,
    make_batch,
    make_model,
    make_task,
    records,
    run,
    same_weights,
    succeeded,
    train_options,
    train_together,
    weights,
)

TASK = ("--task", "language_modeling_with_teacher", "--tokens-per-sample", 32)


@pytest.fixture
def setup(running_text, lm_teacher_file):
    """Make task, learner and criterion from command-line options."""

    def make(*arguments, criterion="backward_kl"):
        task, cfg = make_task(
            running_text,
            *(*TASK, *language_model(), "--teacher-path", lm_teacher_file),
            *("--criterion", criterion, *arguments),
        )
        return task, make_model(task, cfg), task.build_criterion(cfg.criterion)

    return make


def log_probs(model, sample):
    return model.get_normalized_probs(model(**sample["net_input"]), log_probs=True)


BREAKS = {
    "none": (),
    "complete": ("--sample-break-mode", "complete", "--pad-to-fixed-length"),
    "eos": ("--sample-break-mode", "eos"),
    "bos": ("--sample-break-mode", "complete", "--add-bos-token", "--max-target-positions", 32),
}


@pytest.mark.parametrize("arguments", BREAKS.values(), ids=BREAKS)
def test_the_loss_is_the_formula_over_whole_distributions(setup, arguments):
    """Sun & Cross, Eq. 12, from the models' own log-probabilities, one block at a time."""
    task, model, criterion = setup(*arguments, "--transfer-weight", 0.3)
    batch = make_batch(task)
    loss, sample_size, log = criterion(model, batch)
    nll = backward = 0.0
    dataset = task.dataset("valid")
    for index in range(4):
        item = dataset.collater([dataset[index]])
        target = item["target"][0]
        target = target[target.ne(task.target_dictionary.pad())]
        p, q = (
            log_probs(of, item)[0, : len(target)].double()
            for of in (model, task.teacher.members[0])
        )
        nll -= p[torch.arange(len(target)), target].sum().item()
        backward += (p.exp() * (p - q)).sum().item()
    assert loss.item() == pytest.approx(0.7 * nll + 0.3 * backward, rel=1e-5)
    assert log["nll_loss"].item() == pytest.approx(nll, rel=1e-5)
    assert log["transfer_loss"].item() == pytest.approx(backward, rel=1e-4)
    assert sample_size == batch["ntokens"]


ADAPTIVE = ("--adaptive-softmax-cutoff", "20,60")
TIED = (
    *(*ADAPTIVE, "--adaptive-input", "--adaptive-input-cutoff", "20,60", "--tie-adaptive-weights"),
    *("--adaptive-input-factor", 4, "--adaptive-softmax-factor", 4),
    *("--decoder-input-dim", 32, "--decoder-output-dim", 32),
)
LSTM = (
    *("--arch", "lstm_lm", "--decoder-embed-dim", 16, "--decoder-hidden-size", 16),
    *("--decoder-out-embed-dim", 16),
)
OUTPUTS = {
    "own projection": (language_model(), Projection),
    "shared": ((*language_model(), "--share-decoder-input-output-embed"), Projection),
    "fewer types": ((*language_model(), "--output-dictionary-size", 200), Projection),
    "adaptive softmax": ((*language_model(), *ADAPTIVE), Logits),
    "tied adaptive softmax": ((*language_model(), *TIED), Logits),
    "LSTM": (LSTM, Logits),
}


@pytest.mark.parametrize(("arguments", "kind"), OUTPUTS.values(), ids=OUTPUTS)
def test_its_output_says_what_the_model_says(running_text, arguments, kind):
    task, cfg = make_task(
        running_text, "--task", "language_modeling", "--tokens-per-sample", 32, *arguments
    )
    model = make_model(task, cfg).eval()
    batch = make_batch(task)
    rows = torch.tensor([0, 3, 31, 64])
    with torch.no_grad():
        output = models.run(model, batch["net_input"], rows)
        lprobs = log_probs(model, batch).flatten(0, 1)[rows]
    assert type(output) is kind
    assert output.vocabulary == len(task.target_dictionary)
    ours = output.prepare().logits(slice(None)).log_softmax(-1)
    torch.testing.assert_close(ours, lprobs, rtol=1e-4, atol=1e-5)


def test_a_changed_forward_pass_is_noticed(setup):
    _, model, _ = setup("--transfer-weight", 0)
    assert models.has_plain_projection(model)

    class Halved(type(model)):
        def get_normalized_probs(self, net_output, log_probs, sample=None):
            return super().get_normalized_probs((net_output[0] / 2, None), log_probs, sample)

    model.__class__ = Halved
    assert not models.has_plain_projection(model)


def test_a_view_of_other_inputs_is_read_by_the_decoder(setup):
    """And the sample it was made of is not changed."""
    task, model, criterion = setup()
    batch = make_batch(task)
    kept = batch["net_input"]["src_tokens"].clone()
    view = with_decoder_input(batch, kept.flip(0))
    assert torch.equal(batch["net_input"]["src_tokens"], kept)
    torch.testing.assert_close(log_probs(model, view), log_probs(model, batch).flip(0))
    assert criterion(model, view)[0] != criterion(model, batch)[0]


# -- teachers that do not fit ----------------------------------------------------------------------


def refusal(task, cfg) -> str:
    with pytest.raises(UserError) as error:
        task.build_criterion(cfg.criterion)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_translation_model_does_not_teach_a_language_model(running_text, teacher_file):
    options = (*TASK, "--teacher-path", teacher_file, "--criterion", "forward_kl")
    message = refusal(*make_task(running_text, *options, *language_model()))
    assert "holds a transformer_tiny model, which is not a decoder alone" in message
    assert "give a language model as --teacher-path" in message


def test_a_language_model_does_not_teach_translation(binarized, lm_teacher_file):
    options = ("--task", "translation_with_teacher", "--teacher-path", lm_teacher_file)
    message = refusal(*make_task(binarized, *options, "--criterion", "forward_kl"))
    assert "holds a transformer_lm model, which is not an encoder–decoder" in message
    assert "give a translation model as --teacher-path" in message


@pytest.mark.parametrize("option", ["--tokens-per-sample", "--max-target-positions"])
def test_a_teacher_that_reads_shorter_blocks(setup, option):
    with pytest.raises(
        UserError, match=rf"reads up to 32 tokens, the task up to 40: .*{option} 32"
    ):
        setup(option, 40)


def test_another_vocabulary(setup, tmp_path, running_text):
    symbols = (running_text / "dict.txt").read_text("utf-8").splitlines()
    symbols[5], symbols[6] = symbols[6], symbols[5]
    (tmp_path / "dict.txt").write_text("\n".join(symbols), "utf-8")
    with pytest.raises(UserError, match=r"type 9 is .*the learner's dict\.txt"):
        setup("--teacher-data", tmp_path)
    with pytest.raises(UserError, match=r"no dict\.txt of the teacher .*--teacher-data"):
        setup("--teacher-data", tmp_path / "nowhere")


def test_a_task_without_a_teacher(running_text):
    options = ("--task", "language_modeling", "--criterion", "backward_kl")
    message = refusal(*make_task(running_text, *options, *language_model()))
    assert message.startswith("error: the task language_modeling has no teacher: use --task ")
    assert "language_modeling_with_teacher" in message


def test_lambda_zero_never_loads_a_teacher(setup):
    task, model, criterion = setup("--teacher-path", "/no/such/file.pt", "--transfer-weight", 0)
    loss, *_ = criterion(model, make_batch(task))
    assert loss > 0 and task.teacher is None


# -- command lines ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(running_text, lm_teacher_file, tmp_path_factory):
    """Folders and what was printed: without a cache, filling one, reading it, cut off, resumed."""
    folder = tmp_path_factory.mktemp("language-models")
    cached = ("--teacher-cache", folder / "cache")

    def options(name, *arguments):
        return train_options(
            *(running_text, folder / name, *TASK, *language_model()),
            *("--teacher-path", lm_teacher_file, "--criterion", "backward_kl"),
            *("--max-update", 20, "--update-epoch-batch-itr", "True"),
            *("--required-batch-size-multiple", 1, *arguments),
        )

    plain, filling, _ = succeeded(
        train_together(
            options("plain"),
            options("filling", *cached),
            options("resumed", "--max-update", 10),
        )
    )
    reading, resumed = succeeded(train_together(options("reading", *cached), options("resumed")))
    printed = {"plain": plain, "filling": filling, "reading": reading, "resumed": resumed}
    return folder, printed


@pytest.mark.slow
def test_it_learns_from_the_teacher(trained):
    _, printed = trained
    logged = records(printed["plain"], "train_inner")
    assert float(logged[-1]["transfer_loss"]) < 0.7 * float(logged[0]["transfer_loss"])
    (valid, *_), (*_, last) = records(printed["plain"], "valid"), records(printed["plain"], "valid")
    assert float(last["valid_transfer_loss"]) < float(valid["valid_transfer_loss"])
    assert float(last["valid_teacher_entropy"]) > 0


@pytest.mark.slow
def test_a_cache_changes_nothing_but_rounding(trained):
    folder, printed = trained
    assert same_weights(weights(folder / "filling"), weights(folder / "reading"))
    losses = {
        name: [float(record["loss"]) for record in records(printed[name], "train_inner")]
        for name in ("plain", "filling", "reading")
    }
    assert losses["filling"] == losses["reading"]
    assert losses["filling"] == pytest.approx(losses["plain"], rel=1e-3)


@pytest.mark.slow
def test_a_resumed_training_is_the_uninterrupted_one(trained):
    folder, printed = trained
    assert "Loaded checkpoint" in printed["resumed"].stdout
    assert same_weights(weights(folder / "plain"), weights(folder / "resumed"))


@pytest.mark.slow
def test_a_build_has_nothing_to_do_after_a_training(trained, running_text, lm_teacher_file):
    folder, _ = trained
    options = (*TASK, "--teacher-path", lm_teacher_file, "--teacher-cache", folder / "cache")
    command = (sys.executable, "-m", "ka_fairseq.cache", "build", running_text, *options, "--cpu")
    result = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    answered = re.findall(r"^(\S+): (\d+) of (\d+) blocks ", result.stdout, re.M)
    assert [(name, new) for name, new, _ in answered] == [("valid-0", "0"), ("train-0", "0")]
    assert all(int(all_) > 30 for *_, all_ in answered)


@pytest.mark.slow
def test_eval_lm_takes_the_learner_and_its_export_and_no_teacher(trained, running_text, tmp_path):
    folder, _ = trained
    learner, exported = folder / "plain" / "checkpoint_last.pt", tmp_path / "exported.pt"
    state = torch.load(learner, weights_only=True)
    state["cfg"]["task"]["teacher_path"] = "/no/such/teacher.pt"
    torch.save(state, tmp_path / "learner.pt")
    command = [sys.executable, "-m", "ka_fairseq.export", str(learner), str(exported)]
    subprocess.run(command, check=True, cwd=ROOT)
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
