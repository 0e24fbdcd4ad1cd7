"""The teacher cache of a language model: its samples are blocks, which options decide about."""

import shutil

import pytest
import torch

from ka_fairseq import task_traits
from ka_fairseq.errors import UserError
from tests.support import language_model, make_batch, make_model, make_task

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
def make(running_text, lm_teacher_file, tmp_path):
    """Task, learner and criterion; the cache in one folder unless told otherwise."""

    def make(*arguments, data=running_text, cache=tmp_path / "cache", teacher=lm_teacher_file):
        task, cfg = make_task(
            data,
            *("--task", "language_modeling_with_teacher", "--tokens-per-sample", 32),
            *("--teacher-path", teacher, "--teacher-data", running_text, *language_model()),
            *("--criterion", "jsd_mixture", *(("--teacher-cache", cache) if cache else ())),
            *arguments,
        )
        return task, make_model(task, cfg), task.build_criterion(cfg.criterion)

    return make


@pytest.fixture
def teacher_of(running_text, tmp_path, lm_teacher_file):
    """The teacher for some blocks: of as many types as they have."""

    def teacher_of(arguments):
        if "--output-dictionary-size" not in arguments:
            return lm_teacher_file
        state = torch.load(lm_teacher_file, weights_only=True)
        projection = "decoder.output_projection.weight"
        state["model"][projection] = state["model"][projection][:200].clone()
        torch.save(state, tmp_path / "fewer.pt")
        return tmp_path / "fewer.pt"

    return teacher_of


@pytest.mark.parametrize("arguments", BLOCKS.values(), ids=BLOCKS)
def test_stored_answers_give_the_loss_that_the_teacher_gives(make, teacher_of, arguments):
    teacher = teacher_of(arguments)

    def loss_and_gradient(cache):
        options = {} if cache else {"cache": None}
        task, model, criterion = make(*arguments, teacher=teacher, **options)
        batch = make_batch(task)
        stored = "hidden" in batch.get("teacher_cache", {})
        if stored:
            task.teacher.members[0].forward = None  # would fail
        loss, *_ = criterion(model, batch)
        loss.backward()
        return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()]), stored

    loss, gradient, _ = loss_and_gradient(cache=False)
    (first, _, filled), (second, of_stored, read) = (loss_and_gradient(cache=True) for _ in "12")
    assert (filled, read) == (False, True)
    assert second == first == pytest.approx(loss, rel=1e-4)
    # Of a row that is padding alone, torch 1.13 makes NaN, with fairseq's own criterions too.
    atol = 2e-3 * gradient.nan_to_num().abs().max().item()
    torch.testing.assert_close(of_stored, gradient, rtol=2e-2, atol=atol, equal_nan=True)


@pytest.mark.parametrize("arguments", BLOCKS.values(), ids=BLOCKS)
def test_every_block_has_the_room_that_it_needs(make, teacher_of, arguments):
    task, *_ = make(*arguments, cache=None, teacher=teacher_of(arguments))
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
def test_other_blocks(make, arguments):
    task, *_ = make()
    task.load_dataset("valid")
    task, *_ = make(*arguments)
    with pytest.raises(UserError, match="cache/valid-0 was made with another dataset"):
        task.load_dataset("valid")


def test_other_blocks_of_the_same_lengths(make, running_text, tmp_path):
    """One token is another: only the checksum of the tokens can tell."""
    task, model, criterion = make()
    criterion(model, make_batch(task))
    other = tmp_path / "other"
    shutil.copytree(running_text, other)
    tokens = bytearray((other / "valid.bin").read_bytes())
    tokens[0] ^= 1
    (other / "valid.bin").write_bytes(tokens)
    task, *_ = make(data=other)
    with pytest.raises(UserError, match="block 0 of the dataset is another one"):
        make_batch(task)
