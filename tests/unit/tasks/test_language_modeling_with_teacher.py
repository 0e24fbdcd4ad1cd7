"""A language model distilled from a larger one: the loss, and the teachers that fit."""

import pytest
import torch

from ka_fairseq import models
from ka_fairseq.errors import UserError
from ka_fairseq.loss.projection import Logits, Projection
from ka_fairseq.tasks.views import with_decoder_input
from tests.support import collate, language_model, log_probs, make_batch, make_model, make_task

TASK = ("--task", "language_modeling_with_teacher", "--tokens-per-sample", 32)


BREAKS = {
    "none": (),
    "complete": ("--sample-break-mode", "complete", "--pad-to-fixed-length"),
    "eos": ("--sample-break-mode", "eos"),
    "bos": ("--sample-break-mode", "complete", "--add-bos-token", "--max-target-positions", 32),
}


@pytest.mark.parametrize("arguments", BREAKS.values(), ids=BREAKS)
def test_the_loss_is_the_formula_over_whole_distributions(lm_distillation, arguments):
    """Sun & Cross, Eq. 12, from the models' own log-probabilities, one block at a time."""
    task, model, criterion = lm_distillation("backward_kl", *arguments, "--transfer-weight", 0.3)
    batch = make_batch(task)
    loss, sample_size, log = criterion(model, batch)
    nll = backward = 0.0
    for index in range(4):
        item = collate(task, [index])
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


def test_a_changed_forward_pass_is_noticed(lm_distillation):
    _, model, _ = lm_distillation("backward_kl", "--transfer-weight", 0)
    assert models.has_plain_projection(model)

    class Halved(type(model)):
        def get_normalized_probs(self, net_output, log_probs, sample=None):
            return super().get_normalized_probs((net_output[0] / 2, None), log_probs, sample)

    model.__class__ = Halved
    assert not models.has_plain_projection(model)


def test_a_view_of_other_inputs_is_read_by_the_decoder(lm_distillation):
    """And the sample it was made of is not changed."""
    task, model, criterion = lm_distillation("backward_kl")
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
def test_a_teacher_that_reads_shorter_blocks(lm_distillation, option):
    with pytest.raises(
        UserError, match=rf"reads up to 32 tokens, the task up to 40: .*{option} 32"
    ):
        lm_distillation("backward_kl", option, 40)


def test_another_vocabulary(lm_distillation, tmp_path, running_text):
    symbols = (running_text / "dict.txt").read_text("utf-8").splitlines()
    symbols[5], symbols[6] = symbols[6], symbols[5]
    (tmp_path / "dict.txt").write_text("\n".join(symbols), "utf-8")
    with pytest.raises(UserError, match=r"type 9 is .*the student's dict\.txt"):
        lm_distillation("backward_kl", "--teacher-data", tmp_path)
    with pytest.raises(UserError, match=r"no dict\.txt of the teacher .*--teacher-data"):
        lm_distillation("backward_kl", "--teacher-data", tmp_path / "nowhere")


def test_a_task_without_a_teacher(running_text):
    options = ("--task", "language_modeling", "--criterion", "backward_kl")
    message = refusal(*make_task(running_text, *options, *language_model()))
    assert message.startswith("error: the task language_modeling has no teacher: use --task ")
    assert "language_modeling_with_teacher" in message


def test_lambda_zero_never_loads_a_teacher(lm_distillation):
    task, model, criterion = lm_distillation(
        "backward_kl", "--teacher-path", "/no/such/file.pt", "--transfer-weight", 0
    )
    loss, *_ = criterion(model, make_batch(task))
    assert loss > 0 and task.teacher is None
