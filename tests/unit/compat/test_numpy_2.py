"""What numpy 2 took away is there for fairseq, counted a second way, and numpy is as it was."""

import re
import shutil
import struct

import numpy as np
import pytest
import torch
from fairseq.data import TokenBlockDataset, data_utils, indexed_dataset

from tests.support import USER_DIR, make_task, records, run, train

SENTENCES = [torch.tensor(tokens) for tokens in ([5, 6, 2], [7, 2], [8, 9, 10, 2])]


def test_sentences_are_blocks_of_their_own():
    sizes = [len(sentence) for sentence in SENTENCES]
    blocks = TokenBlockDataset(SENTENCES, sizes, None, pad=1, eos=2, break_mode="eos")
    assert [block.tolist() for block in blocks] == [tokens.tolist() for tokens in SENTENCES]


@pytest.mark.parametrize("buckets", [1, 2, 3, 7])
def test_buckets_end_at_the_lengths_below_each_percentile(buckets):
    lengths = np.random.RandomState(1).randint(1, 50, 101)
    ordered = sorted(lengths.tolist())
    ends = {ordered[int(part / buckets * 100)] for part in range(1, buckets + 1)}
    assert data_utils.get_buckets(lengths, buckets).tolist() == sorted(ends)


def test_a_batch_of_a_bucket_is_padded_to_its_end(binarized):
    task, _ = make_task(binarized, "--num-batch-buckets", 3, "--task", "translation_with_teacher")
    task.load_dataset("valid")
    dataset = task.dataset("valid")
    lengths = {len(dataset[index]["source"]) for index in range(len(dataset))}
    assert lengths == set(map(int, dataset.src.buckets)) and 1 < len(lengths) <= 3
    assert len(dataset.bucketed_num_tokens) == len(dataset)


def test_an_index_counts_beyond_two_gigabytes(tmp_path):
    """Three sentences of 2 GiB, of which only the index is there."""
    length, bytes_a_token = 2**30, np.dtype(np.uint16).itemsize
    index = indexed_dataset.MMapIndexedDataset.Index
    with index.writer(tmp_path / "part.idx", np.uint16) as writer:
        writer.write([length] * 3)
    (tmp_path / "part.bin").touch()
    builder = indexed_dataset.MMapIndexedDatasetBuilder(tmp_path / "whole.bin", np.uint16)
    builder.add_item(torch.tensor([5, 6, 2]))
    builder.merge_file_(str(tmp_path / "part"))
    builder.finalize(tmp_path / "whole.idx")
    addresses = (tmp_path / "whole.idx").read_bytes()[-4 * 8 :]
    first = 3 * bytes_a_token
    step = length * bytes_a_token
    assert struct.unpack("<4q", addresses) == (0, first, first + step, first + 2 * step)


def test_numpy_itself_is_left_alone():
    assert data_utils.np.ndarray is np.ndarray and data_utils.np.int64 is np.int64
    if int(np.__version__.split(".")[0]) >= 2:
        assert not hasattr(np, "compat")


@pytest.mark.slow
@pytest.mark.extended
def test_a_learner_is_trained_in_buckets(binarized, teacher_file, tmp_path):
    teacher = ("--task", "translation_with_teacher", "--teacher-path", teacher_file)
    buckets = ("--criterion", "backward_kl", "--num-batch-buckets", 3, "--max-update", 2)
    (valid,) = records(train(binarized, tmp_path, *teacher, *buckets), "valid")
    assert float(valid["valid_transfer_loss"]) > 0


@pytest.mark.slow
@pytest.mark.extended
def test_a_language_model_reads_sentence_by_sentence(binarized, tmp_path):
    """fairseq-eval-lm gives the loss that the training's own validation said."""
    data = tmp_path / "lm"
    data.mkdir()
    shutil.copy(binarized / "dict.en.txt", data / "dict.txt")
    for file in binarized.glob("*.de-en.en.*"):  # train.de-en.en.bin and the like
        shutil.copy(file, data / f"{file.name.split('.')[0]}{file.suffix}")
    trained = train(
        data,
        tmp_path,
        *("--task", "language_modeling", "--criterion", "cross_entropy"),
        *("--arch", "transformer_lm", "--decoder-layers", 1, "--decoder-embed-dim", 16),
        *("--decoder-attention-heads", 2, "--max-update", 4, "--sample-break-mode", "eos"),
    )
    scored = run(
        *("fairseq-eval-lm", data, "--user-dir", USER_DIR, "--cpu", "--gen-subset", "valid"),
        *("--path", tmp_path / "checkpoint_last.pt", "--max-tokens", 1000),
        *("--sample-break-mode", "eos"),
    )
    (valid,) = records(trained, "valid")
    (loss,) = re.findall(r"Loss \(base 2\): ([\d.]+)", scored.stdout + scored.stderr)
    assert float(loss) == pytest.approx(float(valid["valid_loss"]), abs=6e-4)
