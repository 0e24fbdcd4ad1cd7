"""Views of the learner's best tokens: what is read in each, what is made once, what is refused."""

import pytest
import torch

from ka_fairseq.errors import UserError
from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences import forward_kl
from ka_fairseq.loss.divergences.ranking import ranking_term
from ka_fairseq.loss.positions import target_rows
from ka_fairseq.tasks.argmax_views import shifted
from ka_fairseq.tasks.views import Predictions, View
from ka_fairseq.teacher.cache.cached_dataset import KEY
from tests.support import log_probs

PAD, EOS = 1, 2


@pytest.fixture
def tie_kd(distillation):
    return lambda *options: distillation("tie_kd", *options).with_batch()


def predicted(target, tokens, prefix=0):
    """Token by token, for the positions that have a loss."""
    rows = target_rows(target, PAD, prefix)
    return Predictions(rows, torch.tensor(tokens).flatten()[rows])


def test_each_token_is_read_one_place_further_right():
    reference = torch.tensor([[EOS, 11, 12, 13], [EOS, 21, PAD, PAD]])
    target = torch.tensor([[11, 12, 13, EOS], [21, EOS, PAD, PAD]])
    best = predicted(target, [[31, 32, 33, 34], [41, 42, 43, 44]])
    read = torch.tensor([[EOS, 31, 32, 33], [EOS, 41, PAD, PAD]])
    assert torch.equal(shifted(best, reference, PAD), read)


def test_sentences_that_are_filled_up_on_the_left():
    reference = torch.tensor([[EOS, 11, 12, 13], [PAD, PAD, EOS, 21]])
    target = torch.tensor([[11, 12, 13, EOS], [PAD, PAD, 21, EOS]])
    best = predicted(target, [[31, 32, 33, 34], [41, 42, 43, 44]])
    read = torch.tensor([[EOS, 31, 32, 33], [PAD, PAD, EOS, 43]])
    assert torch.equal(shifted(best, reference, PAD), read)


def test_what_has_no_loss_or_is_padding_stays_the_references():
    reference = torch.tensor([[EOS, 11, 12, 13]])
    target = torch.tensor([[11, 12, 13, EOS]])
    best = predicted(target, [[31, PAD, 33, 34]], prefix=1)
    assert torch.equal(shifted(best, reference, PAD), torch.tensor([[EOS, 11, 12, 33]]))


def by_hand(task, model, batch, passes, k=5):
    """TIE-KD's loss from whole distributions, λ = 1/2: a model call for each pass."""
    target = batch["target"]
    keep, reads = target.ne(PAD), []
    read, nll, transfer = batch["net_input"]["prev_output_tokens"], None, 0.0
    for _ in range(passes):
        reads.append(read)
        net_input = {**batch["net_input"], "prev_output_tokens": read}
        p, q = (log_probs(m, {"net_input": net_input}) for m in (model, task.teacher.members[0]))
        if nll is None:
            nll = -p[keep].gather(-1, target[keep].unsqueeze(-1)).sum()
        transfer += forward_kl(p[keep], q[keep]).sum() / passes
        if k:
            ranked = ranking_term(Distribution(p[keep].detach()), Distribution(q[keep]), k)
            transfer += ranked.value.sum() / passes
        best = p.argmax(-1)
        read = torch.cat([read[:, :1], best[:, :-1]], dim=1).masked_fill(read.eq(PAD), PAD)
    return 0.5 * nll + 0.5 * transfer, nll, transfer, reads


@pytest.mark.parametrize(
    ("arguments", "passes", "k"),
    [((), 3, 5), (("--view-passes", 2, "--ranking-k", 3), 2, 3), (("--views", "reference"), 1, 5)],
)
def test_the_loss_is_the_mean_over_the_passes_and_the_nll_of_the_first(
    tie_kd, arguments, passes, k
):
    task, model, criterion, batch = tie_kd(*arguments)
    loss, _, log = criterion(model, batch)
    expected, nll, transfer, _ = by_hand(task, model, batch, passes, k)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert log["nll_loss"].item() == pytest.approx(nll.item(), rel=1e-5)
    assert log["transfer_loss"].item() == pytest.approx(transfer.item(), rel=1e-5)
    assert log["npositions"] == pytest.approx(batch["ntokens"])
    assert log["nll_tokens"] == log["sample_size"] == batch["ntokens"]


def test_gradients_are_those_of_all_passes(tie_kd):
    """Without the ranking loss, whose own gradient test_ranking.py is about."""
    task, model, criterion, batch = tie_kd("--no-ranking")
    criterion(model, batch)[0].backward()
    ours = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    by_hand(task, model, batch, 3, k=0)[0].backward()
    for gradient, parameter in zip(ours, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-4)


class Calls:
    """Notes what a module was called with."""

    def __init__(self, module):
        self.seen = []
        module.register_forward_hook(lambda *call: self.seen.append(call))


def test_encoders_run_once_and_decoders_once_a_pass(tie_kd):
    task, model, criterion, batch = tie_kd("--arch", "transformer_tiny", "--dropout", 0.3)
    teacher = task.teacher.members[0]
    layers = [m.encoder.layers[0] for m in (model, teacher)]
    encoded = [Calls(layer) for layer in layers]
    decoded = [Calls(m.decoder) for m in (model, teacher)]
    forwards = [m.encoder.forward for m in (model, teacher)]
    loss, *_ = criterion(model, batch)
    loss.backward()
    assert [len(calls.seen) for calls in (*encoded, *decoded)] == [1, 1, 3, 3]
    assert [m.encoder.forward for m in (model, teacher)] == forwards
    assert not any("forward" in vars(m.encoder) for m in (model, teacher))
    assert all(decoder.training for decoder, *_ in decoded[0].seen)
    reads = [[inputs[0] for _, inputs, _ in calls.seen] for calls in decoded]
    for ours, theirs in zip(*reads, strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(reads[0][0], reads[0][1])


def test_encoders_are_themselves_again_after_an_error(tie_kd):
    task, model, criterion, batch = tie_kd()
    original, calls = task.ask_teacher, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return original(*arguments)

    task.ask_teacher = failing
    with pytest.raises(RuntimeError, match="out of memory") as error:
        criterion(model, batch)
    assert error.value and not any("forward" in vars(m.encoder) for m in [model])
    del task.ask_teacher
    criterion(model, batch)


def test_one_pass_is_the_reference_to_the_last_bit(distillation):
    """And the default of the other criterions is one look at the reference."""
    results = []
    for arguments in ((), ("--views", "argmax", "--view-passes", 1), ("--views", "reference")):
        task, model, criterion, batch = distillation("backward_kl", *arguments).with_batch()
        loss, _size, log = criterion(model, batch)
        loss.backward()
        results.append((loss, log, [parameter.grad for parameter in model.parameters()]))
    for loss, log, gradients in results[1:]:
        assert torch.equal(loss, results[0][0]) and log == results[0][1]
        assert all(map(torch.equal, gradients, results[0][2]))
    assert not task.decoder_input.is_argmax


@pytest.mark.parametrize("criterion", ["backward_kl", "topk_kl", "jsd_mixture"])
def test_any_divergence_on_the_learners_own_words(distillation, criterion):
    _task, model, made, batch = distillation(criterion, "--views", "argmax").with_batch()
    loss, _, log = made(model, batch)
    loss.backward()
    _, plain, on_references, _ = distillation(criterion).with_batch()
    _, _, other = on_references(plain, batch)
    assert log["nll_loss"].item() == pytest.approx(other["nll_loss"].item(), rel=1e-6)
    assert log["transfer_loss"].item() != pytest.approx(other["transfer_loss"].item(), rel=1e-3)


def test_validation_sees_the_same_views(tie_kd):
    _task, model, criterion, batch = tie_kd()
    trained = criterion(model, batch)[0].item()  # without dropout
    with torch.no_grad():
        assert criterion(model.eval(), batch)[0].item() == pytest.approx(trained, rel=1e-6)


def test_the_first_view_reads_from_the_cache(tie_kd, tmp_path):
    cache = ("--teacher-cache", tmp_path)
    task, model, criterion, batch = tie_kd(*cache)
    expected = criterion(model, batch)[0].item()
    task, model, criterion, batch = tie_kd(*cache)
    assert "hidden" in batch[KEY]
    calls = Calls(task.teacher.members[0].decoder)
    assert criterion(model, batch)[0].item() == pytest.approx(expected, rel=1e-4)
    assert len(calls.seen) == 2


@pytest.mark.parametrize("arguments", [("--arch", "lstm"), ("--adaptive-softmax-cutoff", "20,60")])
def test_other_models(tie_kd, arguments):
    _task, model, criterion, batch = tie_kd(*arguments)
    loss, *_ = criterion(model, batch)
    loss.backward()
    assert torch.isfinite(loss)


def test_a_language_model_has_no_encoder(lm_distillation):
    _, model, criterion, batch = lm_distillation("tie_kd").with_batch()
    calls = Calls(model.decoder)
    loss, *_ = criterion(model, batch)
    loss.backward()
    first, second, _ = (inputs[0] for _, inputs, _ in calls.seen)
    assert torch.equal(first[:, 0], second[:, 0]) and not torch.equal(first, second)


def test_a_view_that_asks_no_teacher_finds_no_best_tokens():
    with pytest.raises(ValueError, match="needs a transfer_share above 0"):
        View({}, transfer_share=0.0, predicted=print)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--views", "own"), "unknown --views 'own'; choose from reference, argmax"),
        (("--view-passes", 0), "--view-passes must be 1 or more, not 0"),
        (("--ranking-k", 0), "--ranking-k: k must lie between 1 and"),
        (("--temperature", 2), "--temperature 2.0 does not go with the ranking loss"),
        (("--divergence", "kl"), "unknown divergence 'kl'; choose from forward_kl"),
    ],
)
def test_options_out_of_range(tie_kd, arguments, says):
    with pytest.raises(UserError, match=says) as error:
        tie_kd(*arguments)
    assert "\n" not in str(error.value)


def test_a_temperature_without_the_ranking_loss(tie_kd):
    _, model, criterion, batch = tie_kd("--temperature", 2, "--no-ranking")
    assert criterion(model, batch)[0] > 0
