"""The criterions: wiring, logging, padding, options."""

import math

import numpy as np
import pytest
import torch

from ka_fairseq import models
from ka_fairseq.errors import UserError
from ka_fairseq.loss import chunked, divergences
from ka_fairseq.loss.divergences import register_divergence, registry
from ka_fairseq.loss.positions import target_rows
from tests.support import collate, gradient_of, log_probs, logged, make_batch, make_task

pytestmark = pytest.mark.older

CRITERIONS = {
    "forward_kl": (divergences.forward_kl, {}),
    "backward_kl": (divergences.backward_kl, {}),
    "jsd_mixture": (divergences.jsd_mixture, {}),
    "topk_kl": (divergences.backward_kl, {"top_k": 8}),
}


@pytest.mark.parametrize("name", CRITERIONS)
def test_the_loss_is_the_formula_over_whole_distributions(distillation, name):
    """Sun & Cross, Eq. 12, from the models' own log-probabilities, one sentence at a time."""
    task, model, criterion = distillation(name, "--transfer-weight", 0.3)
    divergence, restriction = CRITERIONS[name]
    loss, sample_size, log = criterion(model, make_batch(task))
    nll = transfer = entropy = 0.0
    task.load_dataset("valid")
    for index in range(4):
        item = collate(task, [index])
        p, q = (log_probs(m, item)[0].double() for m in (model, task.teacher.members[0]))
        target = item["target"][0]
        nll -= p[torch.arange(len(target)), target].sum().item()
        transfer += divergence(p, q, **restriction).sum().item()
        entropy -= (p.exp() * p).sum().item()
    assert loss.item() == pytest.approx(0.7 * nll + 0.3 * transfer, rel=1e-5)
    assert log["nll_loss"].item() == pytest.approx(nll, rel=1e-5)
    assert log["transfer_loss"].item() == pytest.approx(transfer, rel=1e-4)
    assert log["entropy"].item() == pytest.approx(entropy, rel=1e-5)
    assert sample_size == log["ntokens"] == make_batch(task)["ntokens"]


@pytest.mark.parametrize("name", CRITERIONS)
def test_padding_changes_nothing(distillation, name):
    task, model, criterion = distillation(name)
    together, *_ = criterion(model, make_batch(task))
    task.load_dataset("valid")
    alone = [criterion(model, collate(task, [index]))[0].item() for index in range(4)]
    assert together.item() == pytest.approx(sum(alone), rel=1e-5)


def test_an_update_in_two_halves_has_the_gradient_of_the_whole(distillation):
    task, model, criterion = distillation("jsd_mixture", "--label-smoothing", 0.1)
    task.load_dataset("valid")
    gradients = []
    for parts in ([[0, 1, 2, 3]], [[0, 1], [2, 3]]):
        model.zero_grad()
        for part in parts:
            criterion(model, collate(task, part))[0].backward()
        gradients.append(gradient_of(model))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arguments", [(), ("--label-smoothing", 0.1, "--report-accuracy")])
@pytest.mark.parametrize("name", CRITERIONS)
def test_lambda_zero_is_fairseqs_own_criterion_to_the_last_bit(
    binarized, distillation, name, arguments
):
    task, model, ours = distillation(name, "--transfer-weight", 0, *arguments)
    plain, cfg = make_task(binarized, "--criterion", "label_smoothed_cross_entropy", *arguments)
    theirs = plain.build_criterion(cfg.criterion)
    results = []
    for criterion in (ours, theirs):
        model.zero_grad()
        loss, size, log = criterion(model, make_batch(task))
        loss.backward()
        results.append((loss, size, log, [p.grad.clone() for p in model.parameters()]))
    (loss, size, log, gradient), (their_loss, their_size, their_log, their_gradient) = results
    assert torch.equal(loss, their_loss) and size == their_size and log == their_log
    assert all(torch.equal(a, b) for a, b in zip(gradient, their_gradient, strict=True))
    assert task.teacher is None


def test_nearly_lambda_zero_agrees_with_fairseqs_own_criterion(binarized, distillation):
    """The package's own label smoothing, accuracy and prefix options are fairseq's."""
    options = ("--label-smoothing", 0.2, "--report-accuracy", "--ignore-prefix-size", 2)
    task, model, ours = distillation("forward_kl", "--transfer-weight", 1e-12, *options)
    plain, cfg = make_task(binarized, "--criterion", "label_smoothed_cross_entropy", *options)
    loss, _, log = ours(model, make_batch(task))
    their_loss, _, their_log = plain.build_criterion(cfg.criterion)(model, make_batch(task))
    assert loss.item() == pytest.approx(their_loss.item(), rel=1e-6)
    assert log["nll_loss"].item() == pytest.approx(their_log["nll_loss"].item(), rel=1e-6)
    assert (log["n_correct"], log["total"]) == (their_log["n_correct"], their_log["total"])


def test_a_learner_that_is_its_teacher_transfers_nothing(distillation):
    task, _, criterion = distillation("backward_kl", "--transfer-weight", 1)
    learner = task.teacher.members[0]
    loss, _, log = criterion(learner, make_batch(task))
    assert loss.item() == 0
    torch.testing.assert_close(log["entropy"], log["teacher_entropy"])


def test_an_output_layer_that_is_no_projection(distillation):
    """Adaptive softmax: the loss goes over log-probabilities, and says the same as the formula."""
    task, model, criterion = distillation(
        "backward_kl", "--adaptive-softmax-cutoff", "20,60", "--transfer-weight", 0.5
    )
    batch = make_batch(task)
    loss, *_ = criterion(model, batch)
    loss.backward()
    keep = batch["target"].ne(task.target_dictionary.pad())
    with torch.no_grad():
        theirs = log_probs(model, batch)[keep]  # fairseq's own, which has no gradient
    rows = target_rows(batch["target"], task.target_dictionary.pad())
    p = models.run(model, batch["net_input"], rows).values
    torch.testing.assert_close(p, theirs)
    q = log_probs(task.teacher.members[0], batch)[keep]
    nll = -p.gather(-1, batch["target"][keep].unsqueeze(-1)).sum()
    expected = 0.5 * nll + 0.5 * divergences.backward_kl(p, q).sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    expected.backward()
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--adaptive-softmax-cutoff", "20,60"), "TransformerModel: because of its output layer"),
        ((), "TransformerModel: because of --find-unused-parameters"),
    ],
)
def test_whole_logits_are_told_of_once(distillation, arguments, says, caplog):
    models.tell_of_whole_logits.cache_clear()
    task, model, criterion = distillation("forward_kl", *arguments)
    if not arguments:  # what torch's DistributedDataParallel has with --find-unused-parameters
        model.find_unused_parameters = True
    for _ in range(2):
        criterion(model, make_batch(task))
    assert caplog.text.count("held at once") == 1 and says in caplog.text


@pytest.mark.parametrize("arguments", [(), ("--adaptive-softmax-cutoff", "20,60")])
def test_the_teacher_takes_the_learners_precision_not_its_outputs(distillation, arguments):
    """Log-probabilities are float32, whatever the model that they come from."""
    task, model, criterion = distillation("forward_kl", *arguments)
    criterion(model.to(torch.bfloat16), make_batch(task))
    assert {p.dtype for p in task.teacher.members[0].parameters()} == {torch.bfloat16}


def test_the_sample_is_left_as_it_was(distillation):
    task, model, criterion = distillation("forward_kl")
    batch, again = make_batch(task), make_batch(task)
    criterion(model, batch)
    assert batch["net_input"].keys() == again["net_input"].keys()
    assert all(
        torch.equal(batch["net_input"][k], again["net_input"][k]) for k in again["net_input"]
    )
    assert torch.equal(batch["target"], again["target"])


def test_logs_of_workers_add_up_to_bits_per_token(distillation):
    _, _, criterion = distillation("forward_kl")
    logs = [
        {"loss": 8.0, "nll_loss": 4.0, "transfer_loss": 2.0, "entropy": 6.0, "npositions": 3}
        | {"teacher_entropy": 3.0, "ntokens": 3, "nsentences": 1, "sample_size": 3},
        {"loss": 1.0, "nll_loss": 1.0, "transfer_loss": 1.0, "entropy": 1.0, "npositions": 1}
        | {"teacher_entropy": 1.0, "ntokens": 1, "nsentences": 1, "sample_size": 1},
    ]
    assert criterion.logging_outputs_can_be_summed()
    values = logged(criterion, *logs)
    bit = math.log(2)
    for name, total in (("transfer_loss", 3), ("entropy", 7), ("teacher_entropy", 4), ("loss", 9)):
        assert values[name] == pytest.approx(total / 4 / bit, abs=1e-3)
    assert values["ppl"] == pytest.approx(np.exp(5 / 4), abs=1e-2)


def test_what_an_ignored_prefix_leaves_is_what_sums_are_divided_by(distillation):
    """D and the entropies of a learner that is its teacher's twin do not shrink with the prefix."""
    averages = []
    for prefix in (0, 2):
        task, model, criterion = distillation(
            "forward_kl", "--ignore-prefix-size", prefix, "--transfer-weight", 0.5
        )
        batch = make_batch(task)
        _, _, log = criterion(model, batch)
        values = logged(criterion, log)
        p = log_probs(model, batch)[:, prefix:]
        kept = batch["target"][:, prefix:].ne(task.target_dictionary.pad())
        entropy = -(p.exp() * p).sum(-1)[kept].mean().item() / math.log(2)
        assert values["entropy"] == pytest.approx(entropy, abs=2e-3)
        averages.append(values["transfer_loss"])
    assert averages[1] == pytest.approx(averages[0], rel=0.3)


def test_a_sum_is_all_there_is(distillation):
    task, model, criterion = distillation("forward_kl")
    with pytest.raises(NotImplementedError, match="reduce=True"):
        criterion(model, make_batch(task), reduce=False)


def test_the_size_of_chunks_is_what_was_asked_for(distillation, monkeypatch):
    """--loss-chunk-tokens reaches the walk, and --loss-kernel the compiler; the loss stays."""
    asked = []
    original = chunked.slices

    def noting(length, step):
        asked.append(step)
        return original(length, step)

    task, model, criterion = distillation("jsd_mixture")
    expected = criterion(model, make_batch(task))[0].item()
    monkeypatch.setattr(chunked, "slices", noting)
    task, model, criterion = distillation("jsd_mixture", "--loss-chunk-tokens", 7)
    assert criterion(model, make_batch(task))[0].item() == pytest.approx(expected, rel=1e-6)
    assert asked[0] == 7

    compiled = []

    def compiler():
        compiled.append(True)
        return chunked.row_losses

    monkeypatch.setattr(chunked, "compiled_row_losses", compiler)
    monkeypatch.setattr(torch, "compile", None, raising=False)
    _, _, criterion = distillation("jsd_mixture", "--loss-kernel", "compiled")
    assert criterion(model, make_batch(task))[0].item() == pytest.approx(expected, rel=1e-6)
    assert compiled


def test_no_compiler(distillation, monkeypatch):
    monkeypatch.delattr(torch, "compile", raising=False)
    with pytest.raises(
        UserError, match="--loss-kernel compiled needs torch 2 or newer: leave out --loss-kernel"
    ):
        distillation("jsd_mixture", "--loss-kernel", "compiled")


@pytest.mark.parametrize("name", ["forward_kl", "backward_kl", "jsd_mixture"])
def test_the_presets_are_the_transfer_criterion_with_a_divergence(distillation, name):
    task, model, preset = distillation(name, "--top-k", 5)
    _, _, chosen = distillation("transfer", "--divergence", name, "--top-k", 5)
    chosen.task = task
    assert torch.equal(preset(model, make_batch(task))[0], chosen(model, make_batch(task))[0])


def test_an_unknown_divergence_and_options_that_do_not_go_with_one(distillation, monkeypatch):
    with pytest.raises(UserError, match=r"unknown divergence 'kl'; choose from forward_kl, backwa"):
        distillation("transfer", "--divergence", "kl")
    monkeypatch.setattr(registry, "DIVERGENCES", dict(registry.DIVERGENCES))
    register_divergence("squares")(lambda lp, lq: (lp.exp() - lq.exp()).pow(2).sum(-1))
    with pytest.raises(
        UserError, match="--top-k 4 does not go with squares: the divergence sums over"
    ):
        distillation("transfer", "--divergence", "squares", "--top-k", 4)
    monkeypatch.setattr(torch, "compile", None, raising=False)  # torch 1.13 has none
    with pytest.raises(UserError, match="--loss-kernel compiled cannot compile squares"):
        distillation("transfer", "--divergence", "squares", "--loss-kernel", "compiled")
    task, model, criterion = distillation("transfer", "--divergence", "squares")
    loss, _, log = criterion(model, make_batch(task))
    assert loss > 0 and log["transfer_loss"] > 0


def test_a_cache_serves_every_temperature(distillation, tmp_path):
    """It was made at τ = 1; softened distributions come from the logits that it gives."""
    options = ("--temperature", 2, "--top-k", 3)
    task, model, criterion = distillation("backward_kl", *options)
    expected = criterion(model, make_batch(task))[0].item()
    cache = ("--teacher-cache", tmp_path)
    task, model, criterion = distillation("backward_kl", *cache)
    criterion(model, make_batch(task))
    task, model, criterion = distillation("backward_kl", *options, *cache)
    batch = make_batch(task)
    assert "hidden" in batch["teacher_cache"]
    assert criterion(model, batch)[0].item() == pytest.approx(expected, rel=1e-4)


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["backward", "forward", "mixture"])
def test_the_order_of_topk_kl(distillation, order):
    full = {"backward": "backward_kl", "forward": "forward_kl", "mixture": "jsd_mixture"}[order]
    task, model, restricted = distillation("topk_kl", "--order", order, "--top-k", 5)
    _, _, whole = distillation(full, "--top-k", 5)
    whole.task = task
    batch = make_batch(task)
    assert torch.equal(restricted(model, batch)[0], whole(model, batch)[0])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--transfer-weight", 1.5), "between 0 and 1, not 1.5"),
        (("--transfer-weight", -0.1), "between 0 and 1, not -0.1"),
        (("--transfer-weight", "nan"), "between 0 and 1, not nan"),
        (("--label-smoothing", 1), "label-smoothing must lie"),
        (("--loss-chunk-tokens", -1), "loss-chunk-tokens must be 0 or more, not -1"),
        (("--top-k", -1), "top_k must lie between 0"),
        (("--top-k", 10**6), "top_k must lie between 0"),
        (("--top-k-form", "tails"), "choose from generalized, tail, partial"),
        (("--temperature", 0), "--temperature must be greater than 0, not 0"),
        (("--temperature", "nan"), "--temperature must be greater than 0, not nan"),
        (("--order", "sideways"), "choose from backward, forward, mixture"),
        (("--teacher-dtype", "int8"), "choose from fp32, fp16, bf16"),
    ],
)
def test_options_out_of_range(distillation, arguments, says):
    with pytest.raises(UserError, match=says) as error:
        distillation("topk_kl", *arguments)
    assert "\n" not in str(error.value)


def test_a_task_without_a_teacher(binarized):
    task, cfg = make_task(binarized, "--task", "translation", "--criterion", "forward_kl")
    with pytest.raises(UserError, match="use --task translation_with_teacher"):
        task.build_criterion(cfg.criterion)
