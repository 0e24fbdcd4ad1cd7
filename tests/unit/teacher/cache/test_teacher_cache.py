"""The teacher cache: the same losses, without the teacher; and never another's answers."""

import json
import logging
import shutil

import pytest
import torch

from ka_fairseq.errors import UserError
from tests.support import collate, gradient_of, make_batch, make_task
from tests.untrained import write_checkpoint

CRITERIONS = {
    "forward_kl": (),
    "backward_kl": (),
    "jsd_mixture": (),
    "topk_kl": (),
    "topk_kl, forward": ("--order", "forward"),
    "topk_kl, tail": ("--top-k-form", "tail"),
    "topk_kl, partial": ("--top-k-form", "partial"),
}


@pytest.fixture
def cached(distillation, tmp_path):
    """Task, learner and criterion; the cache in one folder unless told otherwise."""

    def cached(criterion="backward_kl", *arguments, cache=tmp_path / "cache", **options):
        kept = ("--teacher-cache", cache) if cache else ()
        return distillation(criterion.split(",")[0], *arguments, *kept, **options)

    return cached


def forbid_the_teacher(task):
    def must_not_run(*_, **__):
        raise AssertionError("the teacher ran")

    for member in task.teacher.members:
        member.forward = must_not_run


def loss_and_gradient(task, model, criterion, batch=None):
    model.zero_grad()
    loss, _, log = criterion(model, batch or make_batch(task))
    loss.backward()
    return loss.item(), gradient_of(model), {name: float(value) for name, value in log.items()}


@pytest.mark.parametrize("name", CRITERIONS)
def test_stored_answers_give_the_loss_that_the_teacher_gives(cached, name):
    options = ("--label-smoothing", 0.1, "--report-accuracy", *CRITERIONS[name])
    loss, gradient, log = loss_and_gradient(*cached(name, *options, cache=None))
    first = loss_and_gradient(*cached(name, *options))
    task, model, criterion = cached(name, *options)
    forbid_the_teacher(task)
    second = loss_and_gradient(task, model, criterion)
    assert second[0] == first[0] and second[2] == first[2]
    assert torch.equal(second[1], first[1])
    # fp16 keeps eleven bits of the hidden states.
    assert second[0] == pytest.approx(loss, rel=1e-4)
    for key, value in second[2].items():
        assert value == pytest.approx(log[key], rel=2e-3), key
    torch.testing.assert_close(second[1], gradient, rtol=2e-2, atol=2e-3 * gradient.abs().max())


@pytest.mark.parametrize("name", ["forward_kl", "topk_kl, tail"])
def test_eight_bits_give_nearly_the_loss(cached, name):
    options = (*CRITERIONS[name], "--teacher-cache-dtype", "int8")
    loss, gradient, _ = loss_and_gradient(*cached(name, *CRITERIONS[name], cache=None))
    first = loss_and_gradient(*cached(name, *options))
    task, model, criterion = cached(name, *options)
    batch = make_batch(task)
    error = task.teacher_cache.error(batch, task.target_dictionary.pad())
    assert 0 < error < 1e-3
    forbid_the_teacher(task)
    second = loss_and_gradient(task, model, criterion, batch)
    assert second[0] == first[0] and torch.equal(second[1], first[1])
    assert second[0] == pytest.approx(loss, rel=1e-2)
    torch.testing.assert_close(second[1], gradient, rtol=0.1, atol=2e-2 * gradient.abs().max())


def test_the_error_is_the_divergence_from_what_the_teacher_says(cached):
    """Against log-softmax of fairseq's own logits, with the states rounded as the docs say."""
    task, _, _ = cached("backward_kl", "--teacher-cache-dtype", "int8")
    batch = make_batch(task)
    pad = task.target_dictionary.pad()
    decoder = task.teacher.members[0].decoder
    with torch.no_grad():
        encoded = task.teacher.members[0].encoder(
            batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"]
        )
        states, _ = decoder(
            batch["net_input"]["prev_output_tokens"], encoder_out=encoded, features_only=True
        )
        states = states[batch["target"].ne(pad)].double()
        scale = states.abs().amax(-1, keepdim=True) / 127
        kept = (states / scale).round() * scale
        weight = decoder.output_projection.weight.double()
        q, r = (torch.log_softmax(h @ weight.T, -1) for h in (states, kept))
        expected = (q.exp() * (q - r)).sum(-1).mean()
    assert task.teacher_cache.error(batch, pad) == pytest.approx(expected.item(), rel=0.05)


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_an_ensemble_is_kept_too(cached, teacher_file, binarized, tmp_path, dtype):
    second = shutil.copy(teacher_file, tmp_path / "second.pt")
    state = torch.load(second, weights_only=True)
    generator = torch.Generator().manual_seed(1)
    for name, value in state["model"].items():
        if value.is_floating_point():
            state["model"][name] = value + 0.05 * torch.randn(value.shape, generator=generator)
    torch.save(state, second)
    shutil.copy(binarized / "dict.de.txt", tmp_path)
    shutil.copy(binarized / "dict.en.txt", tmp_path)
    options = ("--teacher-path", f"{teacher_file}:{second}")
    for name in ("jsd_mixture", "topk_kl"):
        loss, *_ = loss_and_gradient(*cached(name, *options, cache=None))
        kept = (*options, "--teacher-cache-dtype", dtype)
        loss_and_gradient(*cached(name, *kept))
        task, *rest = cached(name, *kept)
        forbid_the_teacher(task)
        near = {"fp16": 1e-4, "int8": 1e-2}[dtype]
        assert loss_and_gradient(task, *rest)[0] == pytest.approx(loss, rel=near)


def test_prefixes_left_out_are_left_out_of_stored_answers(cached):
    options = ("--ignore-prefix-size", 3)
    loss, *_ = loss_and_gradient(*cached("backward_kl", *options, cache=None))
    for _ in range(2):
        assert loss_and_gradient(*cached("backward_kl", *options))[0] == pytest.approx(
            loss, rel=1e-4
        )


def test_what_is_kept_is_no_part_of_the_teacher(cached, tmp_path):
    """fairseq's models are moved in place: what is kept would be moved along, off the GPU.

    Here a type stands for the place, as a test without a GPU has but one.
    """
    task, model, criterion = cached()
    batch = make_batch(task)
    expected = criterion(model, batch)[0].item()
    kept = [t for layer in task.teacher_cache.layers(torch.device("cpu")) for t in layer]
    parts = [*task.teacher.members[0].parameters(), *task.teacher.members[0].buffers()]
    storages = {part.data_ptr() for part in parts}
    for tensor in kept:
        assert tensor is None or tensor.data_ptr() not in storages
        assert not isinstance(tensor, torch.nn.Parameter)
    for member in task.teacher.members:
        for parameter in member.parameters():
            parameter.data = torch.full_like(parameter, torch.nan)
    task.teacher.offload()
    assert criterion(model, make_batch(task))[0].item() == expected


@pytest.mark.parametrize("filled", [False, True])
def test_under_amp_the_teacher_and_what_is_stored_are_as_without(cached, tmp_path, filled):
    stored = []
    for amp in (False, True):
        cache = tmp_path / f"cache-{amp}"
        task, model, criterion = cached("backward_kl", cache=cache)
        if filled:
            criterion(model, make_batch(task))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
            criterion(model, make_batch(task))
        files = sorted((cache / "valid-0").glob("00000.*"))
        stored.append([file.read_bytes() for file in files])
        assert len(files) == 3 and any(any(content) for content in stored[-1])
    assert stored[0] == stored[1]


def test_a_batch_is_answered_whole_where_one_pair_is_missing(cached):
    task, model, criterion = cached()
    task.load_dataset("valid")
    criterion(model, collate(task, (1, 2)))
    batch = collate(task, (0, 1, 2))
    assert "hidden" not in batch["teacher_cache"]
    criterion(model, batch)
    assert "hidden" in collate(task, (2, 0))["teacher_cache"]


def test_without_a_transfer_there_is_no_cache(cached, tmp_path):
    task, model, criterion = cached("backward_kl", "--transfer-weight", 0)
    criterion(model, make_batch(task))
    assert not (tmp_path / "cache").exists()


# -- another teacher, dictionary, dataset, precision ----------------------------------------------


def test_another_teacher(cached, copy_of_teacher, binarized):
    cached()
    copy_of_teacher.write_bytes(copy_of_teacher.read_bytes() + b" ")
    options = ("--teacher-path", copy_of_teacher, "--teacher-data", binarized)
    with pytest.raises(UserError, match=r"made with another teacher \(\w{12} there, \w{12} here\)"):
        cached("backward_kl", *options)


def test_another_precision(cached):
    cached()
    with pytest.raises(UserError, match=r"another storage precision \(fp16 there, bf16 here\)"):
        cached("backward_kl", "--teacher-cache-dtype", "bf16")
    with pytest.raises(UserError, match=r"another teacher precision \(float32 there, bfloat16"):
        cached("backward_kl", "--teacher-dtype", "bf16")
    with pytest.raises(
        UserError, match=r"unknown --teacher-cache-dtype 'fp8'; choose from fp16, bf16, int8"
    ):
        cached("backward_kl", "--teacher-cache-dtype", "fp8")


def test_another_dictionary(cached, tmp_path):
    cached()
    file = tmp_path / "cache" / "teacher.json"
    file.write_text(file.read_text().replace('"dictionary": "', '"dictionary": "0'))
    with pytest.raises(UserError, match="another dictionary"):
        cached()


def test_another_dataset(cached, binarized, tmp_path):
    task, *_ = cached()
    task.load_dataset("valid")
    other = tmp_path / "other"
    shutil.copytree(binarized, other)
    for file in binarized.glob("train.*"):  # the training set as validation set
        shutil.copy(file, other / file.name.replace("train", "valid"))
    task, *_ = cached(data=other)
    with pytest.raises(UserError, match=r"cache/valid-0 was made with another dataset"):
        task.load_dataset("valid")


def test_another_dataset_of_the_same_lengths(cached, binarized, tmp_path):
    task, model, criterion = cached()
    criterion(model, make_batch(task))
    other = tmp_path / "other"
    shutil.copytree(binarized, other)
    (text,) = other.glob("valid*.en.bin")
    tokens = bytearray(text.read_bytes())
    tokens[0] ^= 1  # the first token of the first sentence
    text.write_bytes(tokens)
    task, *_ = cached(data=other)
    with pytest.raises(UserError, match="pair 0 of the dataset differs from the one"):
        make_batch(task)


def test_a_damaged_answer_is_given_anew(cached, tmp_path, caplog):
    task, model, criterion = cached()
    loss, *_ = loss_and_gradient(task, model, criterion)
    file = tmp_path / "cache" / "valid-0" / "00000.hidden"
    content = bytearray(file.read_bytes())
    content[3] ^= 64
    file.write_bytes(content)
    task, model, criterion = cached()
    with caplog.at_level(logging.WARNING):
        batch = make_batch(task)
    assert "pair 0 is damaged" in caplog.text
    assert loss_and_gradient(task, model, criterion, batch)[0] == loss
    assert "hidden" in make_batch(task)["teacher_cache"]


def test_a_teacher_without_a_plain_projection(binarized, tmp_path):
    path = tmp_path / "adaptive.pt"
    write_checkpoint(binarized, path, "--adaptive-softmax-cutoff", "20,60")
    task, cfg = make_task(
        binarized,
        *("--task", "translation_with_teacher", "--criterion", "forward_kl"),
        *("--teacher-path", path, "--teacher-cache", tmp_path / "cache"),
    )
    with pytest.raises(UserError, match="TransformerModel with its options has no such projection"):
        task.build_criterion(cfg.criterion)


def test_a_folder_that_cannot_be_one(cached, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot use the teacher cache .*check --teacher-cache"):
        cached("backward_kl", cache=tmp_path / "file")


def test_a_projection_beyond_fp16(cached):
    task, model, criterion = cached()
    task.teacher.members[0].decoder.output_projection.weight[7, 0] = 1e6
    with pytest.raises(UserError, match=r"output projection are too large for fp16: pass --teach"):
        criterion(model, make_batch(task))


def test_a_cache_with_an_unrounded_projection(cached, tmp_path):
    """As earlier versions of this package made them: their normalizers are not those of now."""
    cached()
    file = tmp_path / "cache" / "teacher.json"
    kept = json.loads(file.read_text())
    del kept["precision of the projection"]
    file.write_text(json.dumps(kept))
    with pytest.raises(UserError, match=r"another precision of the projection \(nothing there"):
        cached()


def test_hidden_states_beyond_fp16(cached):
    task, model, criterion = cached()
    decoder = task.teacher.members[0].decoder
    decoder.layers[-1].final_layer_norm.weight.mul_(1e6)
    with pytest.raises(UserError, match="too large for fp16: pass --teacher-cache-dtype bf16"):
        criterion(model, make_batch(task))
