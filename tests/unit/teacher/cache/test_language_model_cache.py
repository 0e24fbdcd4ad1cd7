"""The teacher cache of a language model: its samples are blocks, which options decide about."""

import shutil

import pytest
import torch

from ka_fairseq import task_traits
from ka_fairseq.errors import UserError
from tests.support import gradient_of, make_batch

BLOCKS = {
    "of a size": (),
    "of whole sentences": ("--sample-break-mode", "complete"),
    "a sentence each": ("--sample-break-mode", "eos"),
    "with a first token of their own": ("--add-bos-token",),
    "of fewer types": ("--output-dictionary-size", 200),
    "of one length": ("--sample-break-mode", "complete", "--pad-to-fixed-length"),
    "in batches of one size": ("--pad-to-fixed-bsz", "--batch-size", 8, "--batch-size-valid", 8),
}


@pytest.fixture
def cached(lm_distillation, running_text, tmp_path):
    """Task, learner and criterion; with one cache unless there is to be none."""

    def cached(*arguments, cache=True, **options):
        kept = ("--teacher-cache", tmp_path / "cache") if cache else ()
        teacher = ("--teacher-data", running_text)
        return lm_distillation("jsd_mixture", *teacher, *kept, *arguments, **options)

    return cached


@pytest.fixture
def teacher_of(tmp_path, lm_teacher_file):
    """The option that gives a teacher for some blocks: of as many types as they have."""

    def teacher_of(arguments):
        if "--output-dictionary-size" not in arguments:
            return ("--teacher-path", lm_teacher_file)
        state = torch.load(lm_teacher_file, weights_only=True)
        projection = "decoder.output_projection.weight"
        state["model"][projection] = state["model"][projection][:200].clone()
        torch.save(state, tmp_path / "fewer.pt")
        return ("--teacher-path", tmp_path / "fewer.pt")

    return teacher_of


@pytest.mark.parametrize("arguments", BLOCKS.values(), ids=BLOCKS)
def test_stored_answers_give_the_loss_that_the_teacher_gives(cached, teacher_of, arguments):
    teacher = teacher_of(arguments)

    def loss_and_gradient(cache):
        task, model, criterion, batch = cached(*arguments, *teacher, cache=cache).with_batch()
        stored = "hidden" in batch.get("teacher_cache", {})
        if stored:
            task.teacher.members[0].forward = None  # would fail
        loss, *_ = criterion(model, batch)
        loss.backward()
        return loss.item(), gradient_of(model), stored

    loss, gradient, _ = loss_and_gradient(cache=False)
    (first, _, filled), (second, of_stored, read) = (loss_and_gradient(cache=True) for _ in "12")
    assert (filled, read) == (False, True)
    assert second == first == pytest.approx(loss, rel=1e-4)
    # Of a row that is padding alone, torch 1.13 makes NaN, with fairseq's own criterions too.
    atol = 2e-3 * gradient.nan_to_num().abs().max().item()
    torch.testing.assert_close(of_stored, gradient, rtol=2e-2, atol=atol, equal_nan=True)


@pytest.mark.parametrize("arguments", BLOCKS.values(), ids=BLOCKS)
def test_every_block_has_the_room_that_it_needs(cached, teacher_of, arguments):
    task, *_ = cached(*arguments, *teacher_of(arguments), cache=False)
    task.load_dataset("valid")
    dataset, pad = task.dataset("valid"), task.target_dictionary.pad()
    (lengths,) = task_traits.lengths(dataset)
    assert lengths.tolist() == [
        int(dataset[index]["target"].ne(pad).sum()) for index in range(len(dataset))
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tokens-per-sample", "16"),
        ("--tokens-per-sample", "31"),
        ("--sample-break-mode", "complete"),
        ("--sample-break-mode", "eos"),
        ("--add-bos-token",),
    ],
    ids=" ".join,
)
def test_other_blocks(cached, arguments):
    task, *_ = cached()
    task.load_dataset("valid")
    task, *_ = cached(*arguments)
    with pytest.raises(UserError, match="cache/valid-0 was made with another dataset"):
        task.load_dataset("valid")


def test_other_blocks_of_the_same_lengths(cached, running_text, tmp_path):
    """One token is another: only the checksum of the tokens can tell."""
    task, model, criterion = cached()
    criterion(model, make_batch(task))
    other = tmp_path / "other"
    shutil.copytree(running_text, other)
    tokens = bytearray((other / "valid.bin").read_bytes())
    tokens[0] ^= 1
    (other / "valid.bin").write_bytes(tokens)
    task, *_ = cached(data=other)
    with pytest.raises(UserError, match="block 0 of the dataset differs from the one"):
        make_batch(task)
