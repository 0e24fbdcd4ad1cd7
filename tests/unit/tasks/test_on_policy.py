"""The learner's own translations: which, how long, by which chance; what is taught there."""

import math

import pytest
import torch
from fairseq.logging import metrics

from ka_fairseq.errors import UserError
from ka_fairseq.loss.divergences import backward_kl
from ka_fairseq.tasks import on_policy
from ka_fairseq.tasks.on_policy import is_on_policy, translate
from ka_fairseq.tasks.views import View
from tests.support import log_probs, logged

PAD, EOS = 1, 2
ALWAYS = ("--on-policy-fraction", 1, "--on-policy-max-len-b", 5)


@pytest.fixture
def ka(distillation):
    return lambda *options: distillation("backward_kl", *options).with_batch()


# -- which updates ---------------------------------------------------------------------------------


def test_the_fraction_is_that_of_the_updates_and_depends_on_seed_and_number(ka):
    drawn = {}
    for seed in (1, 2):
        task, *_ = ka("--on-policy-fraction", 0.3, "--seed", seed)
        drawn[seed] = [is_on_policy(task.cfg, update) for update in range(2000)]
        torch.rand(1)
        assert drawn[seed] == [is_on_policy(task.cfg, update) for update in range(2000)]
        assert sum(drawn[seed]) / 2000 == pytest.approx(0.3, abs=0.05)
    assert drawn[1] != drawn[2]


@pytest.mark.parametrize(("fraction", "expected"), [(0, False), (1, True)])
def test_never_and_always(ka, fraction, expected):
    task, *_ = ka("--on-policy-fraction", fraction)
    assert all(is_on_policy(task.cfg, update) is expected for update in range(500))


def test_validation_reads_the_references(ka):
    task, model, _, batch = ka(*ALWAYS)
    assert [view.sample is batch for view in task.views(batch, model.eval())] == [True]
    assert [view.sample is batch for view in task.views(batch, model.train())] == [False]


def test_without_a_fraction_nothing_is_asked(ka):
    task, model, _, batch = ka()
    task.build_generator = None
    assert task.views(batch, model) == (View(batch),)


# -- the translations ------------------------------------------------------------------------------


def tokens(translations):
    return [translation.tolist() for translation in translations]


def test_sampling_depends_on_its_seed_alone_and_leaves_no_trace(ka):
    task, model, _, batch = ka(*ALWAYS, "--arch", "transformer_tiny", "--dropout", 0.5)
    first = tokens(translate(task, batch, model, seed=3))
    state = torch.get_rng_state()
    assert tokens(translate(task, batch, model, seed=3)) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    torch.rand(7)
    assert tokens(translate(task, batch, model, seed=3)) == first
    assert tokens(translate(task, batch, model, seed=4)) != first
    assert tokens(translate(task, batch, model.eval(), seed=3)) == first
    assert not model.training


def test_greedy_is_the_best_token_each_time(ka):
    """One token at a time, without the generator and its incremental state."""
    task, model, _, batch = ka(*ALWAYS, "--on-policy-temperature", 0)
    found = tokens(translate(task, batch, model, seed=1))
    cold, *_ = ka(*ALWAYS, "--on-policy-temperature", 1e-4)
    assert tokens(translate(cold, batch, model, seed=1)) == found
    model.eval()
    most = int(1.2 * batch["net_input"]["src_tokens"].size(1) + 5)
    read = torch.full((4, 1), EOS)
    for place in range(most):
        net_input = {**batch["net_input"], "prev_output_tokens": read}
        logits = model(**net_input)[0][:, -1].clone()
        logits[:, PAD] = -math.inf
        if place == 0:
            logits[:, EOS] = -math.inf
        read = torch.cat([read, logits.argmax(-1, keepdim=True)], dim=1)
    expected = []
    for line in read[:, 1:].tolist():
        expected.append(line[: line.index(EOS) + 1] if EOS in line else [*line, EOS])
    assert found == expected


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize(("a", "b", "most"), [(0, 1, 2), (0, 4, 5), (0.5, 2, None)])
def test_none_is_empty_and_none_too_long(ka, temperature, a, b, most):
    limits = ("--on-policy-max-len-a", a, "--on-policy-max-len-b", b)
    task, model, _, batch = ka("--on-policy-temperature", temperature, *limits)
    most = most or int(a * batch["net_input"]["src_tokens"].size(1) + b) + 1
    for translation in tokens(translate(task, batch, model, seed=1)):
        assert 2 <= len(translation) <= most
        assert translation[-1] == EOS and EOS not in translation[:-1] and PAD not in translation


def test_none_is_longer_than_the_model_reads(ka):
    task, model, _, batch = ka("--max-target-positions", 30, "--on-policy-max-len-b", 500)
    model.decoder.output_projection.weight.data[EOS] = 0  # it rambles
    model.decoder.output_projection.weight.data[EOS, 0] = 0
    lengths = [len(line) for line in translate(task, batch, model, seed=1)]
    assert max(lengths) <= 30 and len(lengths) == 4


def test_what_is_given_of_the_references_comes_first(ka):
    """As with --ignore-prefix-size, where a target begins with the name of a language, say."""
    task, model, *_, batch = ka(*ALWAYS)
    for line, target in zip(
        translate(task, batch, model, seed=1, prefix=2), batch["target"], strict=True
    ):
        assert torch.equal(line[:2], target[:2])


# -- what is taught --------------------------------------------------------------------------------


def views_of(task, model, batch):
    return list(task.views(batch, model))


LEFT_PADDED = pytest.param(
    ("--left-pad-target",),
    marks=pytest.mark.skipif(
        torch.__version__.startswith("1."),
        reason="with torch 1.13 fairseq's own decoder gives NaN for a target padded on its left",
    ),
)


@pytest.mark.parametrize("arguments", [(), LEFT_PADDED])
def test_d_is_taken_on_the_translations_without_an_nll(ka, arguments):
    task, model, criterion, batch = ka(*ALWAYS, "--transfer-weight", 0.3, *arguments)
    (view,) = views_of(task, model, batch)
    read = view.sample
    keep = read["target"].ne(PAD)
    assert read["ntokens"] == keep.sum() != batch["ntokens"]
    assert torch.equal(keep, read["net_input"]["prev_output_tokens"].ne(PAD))
    loss, size, log = criterion(model, batch)
    p, q = (log_probs(m, read)[keep] for m in (model, task.teacher.members[0]))
    mean = backward_kl(p, q).sum().item() / read["ntokens"]
    assert loss.item() == pytest.approx(0.3 * mean * batch["ntokens"], rel=1e-4)
    assert size == batch["ntokens"] and log["nll_tokens"] == 0
    values = logged(criterion, log)
    assert values["transfer_loss"] == pytest.approx(mean / math.log(2), abs=1e-3)
    assert values["loss"] == pytest.approx(0.3 * mean / math.log(2), abs=1e-3)
    assert "nll_loss" not in values and "ppl" not in values
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_nll_of_the_references_may_be_kept(ka):
    task, model, criterion, batch = ka(*ALWAYS, "--on-policy-keep-nll", "--label-smoothing", 0.1)
    _, _, without, _ = ka(*ALWAYS)
    loss, _, log = criterion(model, batch)
    without.task = task
    task.cfg.on_policy_keep_nll = False
    alone, *_ = without(model, batch)
    _, _plain, on_references, _ = ka("--transfer-weight", 0, "--label-smoothing", 0.1)
    nll, _, their_log = on_references(model, batch)
    assert loss.item() == pytest.approx(alone.item() + 0.5 * nll.item(), rel=1e-5)
    assert log["nll_loss"].item() == pytest.approx(their_log["nll_loss"].item(), rel=1e-6)
    assert log["nll_tokens"] == batch["ntokens"]


def test_the_nll_that_is_logged_is_that_of_the_references(ka):
    """An on-policy batch, which has none, does not lower the mean."""
    task, model, criterion, batch = ka(*ALWAYS)
    _, _, own = criterion(model, batch)
    task.cfg.on_policy_fraction = 0.0
    _, _, theirs = criterion(model, batch)
    values = [logged(criterion, theirs), logged(criterion, own, theirs)]
    assert values[0]["nll_loss"] == values[1]["nll_loss"] > 0
    assert values[0]["transfer_loss"] != values[1]["transfer_loss"]


def test_the_sample_stays_as_it_was_and_the_cache_is_passed_by(ka, tmp_path):
    cache = ("--teacher-cache", tmp_path)
    _, model, criterion, batch = ka(*cache)
    criterion(model, batch)
    _, model, criterion, batch = ka(*ALWAYS, *cache)
    target = batch["target"].clone()
    with_cache, *_ = criterion(model, batch)
    assert torch.equal(batch["target"], target) and "hidden" in batch["teacher_cache"]
    without, *_ = ka(*ALWAYS)[2](model, batch)
    assert with_cache.item() == pytest.approx(without.item(), rel=1e-6)


def test_a_batch_depends_on_its_update(ka):
    task, model, _, batch = ka(*ALWAYS)
    read = []
    for update in (4, 4, 5):
        task.update_num = update
        read.append(views_of(task, model, batch)[0].sample["target"].tolist())
    assert read[0] == read[1] != read[2]


def test_under_autocast_the_learner_gets_its_gradient(ka):
    """Half-precision copies of weights made while translating, without a gradient, are not kept."""
    _, model, criterion, batch = ka(*ALWAYS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, *_ = criterion(model, batch)
    loss.backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.encoder.layers.parameters()
               if parameter.dim() > 1)  # fmt: skip


def test_the_share_of_time_is_that_of_both_watches(ka):
    task, model, _, batch = ka(*ALWAYS)
    with metrics.aggregate(new_root=True) as aggregate:
        on_policy.log_share()
        assert aggregate.get_smoothed_values()["generate_share"] == 0
        metrics.log_start_time("train_wall")
        views_of(task, model, batch)
        metrics.log_stop_time("train_wall")
        assert 0 < aggregate.get_smoothed_values()["generate_share"] <= 1


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--on-policy-fraction", 1.5), "--on-policy-fraction must lie between 0 and 1, not 1.5"),
        (("--on-policy-fraction", "nan"), "--on-policy-fraction must lie between 0 and 1, not nan"),
        (("--on-policy-temperature", -1), "--on-policy-temperature must be 0 or more, not -1"),
        (("--on-policy-max-len-a", -1), "--on-policy-max-len-a must be 0 or more, not -1"),
        (("--on-policy-max-len-b", 0), "--on-policy-max-len-b must be 1 or more, not 0"),
    ],
)
def test_options_out_of_range(ka, arguments, says):
    with pytest.raises(UserError, match=says) as error:
        ka(*arguments)
    assert "\n" not in str(error.value)


def test_a_language_model_has_nothing_to_translate(lm_distillation):
    with pytest.raises(UserError, match="a language model has no sources: leave out"):
        lm_distillation("backward_kl", "--on-policy-fraction", 0.5)
