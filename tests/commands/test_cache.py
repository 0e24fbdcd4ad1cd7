"""fairseq-train --teacher-cache and python -m ka_fairseq.cache build, as users type them."""

import re
import shutil
from unittest import mock

import pytest
import torch

from ka_fairseq.teacher.cache import store
from tests.support import run, run_together, same_weights, succeeded, train

pytestmark = pytest.mark.slow


def build(data, *arguments, **options):
    return run("python", "-m", "ka_fairseq.cache", "build", data, *arguments, **options)


def answered(result):
    """Per split: how many pairs the teacher answered, and how many there are."""
    lines = re.findall(r"^(\S+): (\d+) of (\d+) pairs", result.stdout, re.MULTILINE)
    return {name: (int(new), int(all_)) for name, new, all_ in lines}


@pytest.fixture(scope="module")
def teacher(teacher_file):
    return ("--task", "translation_with_teacher", "--teacher-path", teacher_file)


@pytest.fixture(scope="module")
def built(binarized, teacher, tmp_path_factory):
    """A cache of everything, and what the command printed."""
    folder = tmp_path_factory.mktemp("built") / "cache"
    options = (*teacher, "--teacher-cache", folder, "--max-tokens", 800, "--cpu")
    result = build(binarized, *options, as_typed=True)
    return folder, answered(result)


def fine_tune(data, folder, *arguments, criterion="jsd_mixture"):
    # With a larger eps: else a rounding turns the sign of a gradient that is almost zero, and
    # Adam's first steps go as far the other way.
    options = ("--criterion", criterion, "--max-update", 12, "--adam-eps", 1e-4)
    train(data, folder, *options, *arguments)
    state = torch.load(folder / "checkpoint_last.pt", weights_only=True)
    return state["model"], state["extra_state"]["val_loss"]


def distance(one, other):
    """Between all parameters of two models, Euclidean."""
    return sum(float((one[key] - other[key]).square().sum()) for key in one) ** 0.5


def test_a_build_answers_every_pair_once(binarized, teacher, built):
    folder, first = built
    assert set(first) == {"valid-0", "train-0"}
    assert all(new == all_ > 0 for new, all_ in first.values())
    again = answered(build(binarized, *teacher, "--teacher-cache", folder, "--cpu"))
    assert all(new == 0 for new, _ in again.values())


def test_training_with_a_cache_is_the_training_without(binarized, teacher, built, tmp_path):
    plain, plain_loss = fine_tune(binarized, tmp_path / "plain", *teacher)
    filling, _ = fine_tune(
        binarized, tmp_path / "filling", *teacher, "--teacher-cache", tmp_path / "cache"
    )
    again, _ = fine_tune(
        binarized, tmp_path / "again", *teacher, "--teacher-cache", tmp_path / "cache"
    )
    from_build, loss = fine_tune(
        binarized,
        tmp_path / "from_build",
        *(*teacher, "--teacher-cache", built[0], "--num-workers", 2),
    )
    another_loss, _ = fine_tune(binarized, tmp_path / "ka", *teacher, criterion="backward_kl")
    assert same_weights(filling, again)
    assert loss == pytest.approx(plain_loss, rel=1e-3)
    for other in (filling, from_build):
        for key, value in plain.items():
            torch.testing.assert_close(other[key], value, rtol=0.05, atol=5e-4)
        assert distance(other, plain) < 0.02 * distance(another_loss, plain)


def test_a_build_that_was_cut_off_goes_on_and_mends(binarized, teacher, built, tmp_path):
    folder = tmp_path / "cache"
    shutil.copytree(built[0], folder)
    checksums = folder / "train-0" / "00000.checksums"
    content = bytearray(checksums.read_bytes())
    content[: 24 * 40] = bytes(24 * 40)  # the first forty pairs are not there yet
    checksums.write_bytes(content)
    hidden = folder / "valid-0" / "00000.hidden"
    hidden.write_bytes(b"\xff" * 10 + hidden.read_bytes()[10:])  # the first one is damaged
    options = (*teacher, "--teacher-cache", folder, "--batch-size", 1, "--cpu")
    result = answered(build(binarized, *options))
    assert result["train-0"][0] == 40
    assert result["valid-0"][0] == 1
    for part in ("train-0/00000.checksums", "valid-0/00000.checksums"):
        # Other batches may have rounded differently; the tokens' checksums are the same.
        assert len((folder / part).read_bytes()) == len((built[0] / part).read_bytes())
    assert all(new == 0 for new, _ in answered(build(binarized, *options)).values())


def small_files():
    """Files of as few pairs as make several of this text."""
    return mock.patch.object(store, "PAIRS_PER_SHARD", 100)


@pytest.mark.extended
@pytest.mark.parametrize("fairseqs_own", [False, True])
def test_two_builds_share_the_work(binarized, teacher, tmp_path, fairseqs_own):
    options = (*teacher, "--teacher-cache", tmp_path / "cache", "--max-tokens", 400, "--cpu")
    command = ["python", "-m", "ka_fairseq.cache", "build", binarized, *options]
    shares = [
        ("--num-shards", 2, "--shard-id", n - 1) if fairseqs_own else ("--shard", f"{n}/2")
        for n in (1, 2)
    ]
    built = succeeded(run_together(*([*command, *share] for share in shares), watch=small_files))
    assert [answered(result)["train-0"][0] for result in built] == [300, 300]
    (rest,) = succeeded(run_together(command, watch=small_files))
    assert answered(rest) and all(new == 0 for new, _ in answered(rest).values())


def test_a_share_that_is_none_is_one_line(binarized, teacher, tmp_path):
    options = (*teacher, "--teacher-cache", tmp_path / "cache", "--shard", "3/2")
    result = build(binarized, *options, check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith(
        "3/2 is no share: write 1/4 for the first of four"
    )


@pytest.mark.extended
def test_eight_bits_take_half_the_room_and_tell_their_error(binarized, teacher, built, tmp_path):
    folder = tmp_path / "cache"
    options = (*teacher, "--teacher-cache", folder, "--teacher-cache-dtype", "int8")
    result = build(binarized, *options, "--max-tokens", 800, "--cpu")
    (told,) = re.findall(r"train-0: 600 of .* KL\(teacher ‖ kept\) (\S+) nats", result.stdout)
    assert 0 < float(told) < 1e-3
    sizes = [(path / "train-0" / "00000.hidden").stat().st_size for path in (folder, built[0])]
    assert 2 * sizes[0] == sizes[1]
    _, loss = fine_tune(binarized, tmp_path / "run", *options, "--max-epoch", 1)
    _, plain_loss = fine_tune(binarized, tmp_path / "plain", *teacher, "--max-epoch", 1)
    assert loss == pytest.approx(plain_loss, rel=0.01)
    again = answered(build(binarized, *options, "--cpu"))
    assert all(new == 0 for new, _ in again.values())


@pytest.mark.extended
def test_several_parts_of_the_training_set(binarized, teacher, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(binarized, other)
    for file in binarized.glob("valid.*"):
        shutil.copy(file, other / file.name.replace("valid", "train"))
    both = f"{binarized}:{other}"
    folder = tmp_path / "cache"
    result = answered(build(both, *teacher, "--teacher-cache", folder, "--cpu"))
    assert set(result) == {"valid-0", "train-0", "train-1"}
    fine_tune(both, tmp_path / "run", *teacher, "--teacher-cache", folder, "--max-epoch", 3)
    again = answered(build(both, *teacher, "--teacher-cache", folder, "--cpu"))
    assert all(new == 0 for new, _ in again.values())


def test_a_build_without_a_folder(binarized, teacher):
    result = build(binarized, *teacher, "--cpu", check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "error: the cache has no folder: give one, --teacher-cache DIR"
    )
