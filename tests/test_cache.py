"""fairseq-train --teacher-cache and python -m ka_fairseq.cache build, as users type them."""

import re
import shutil
import subprocess
import sys

import pytest
import torch

from tests.support import ROOT, train

pytestmark = pytest.mark.slow


def build(data, *arguments, check=True):
    result = subprocess.run(
        [sys.executable, "-m", "ka_fairseq.cache", "build", str(data), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


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
    result = build(binarized, *teacher, "--teacher-cache", folder, "--max-tokens", 800, "--cpu")
    return folder, answered(result)


def fine_tune(data, folder, *arguments):
    train(data, folder, "--criterion", "jsd_mixture", "--max-update", 12, *arguments)
    state = torch.load(folder / "checkpoint_last.pt", weights_only=True)
    return state["model"], state["extra_state"]["val_loss"]


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


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
    assert same(filling, again)
    assert loss == pytest.approx(plain_loss, rel=1e-3)
    for other in (filling, from_build):
        for key, value in plain.items():
            torch.testing.assert_close(other[key], value, rtol=0.05, atol=5e-3)


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


def test_two_builds_share_the_work(binarized, teacher, tmp_path):
    folder = tmp_path / "cache"
    options = (*teacher, "--teacher-cache", folder, "--max-tokens", 400, "--cpu")
    module = (sys.executable, "-m", "ka_fairseq.cache")
    commands = [
        (*module, "build", binarized, *options, "--num-shards", 2, "--shard-id", shard)
        for shard in (0, 1)
    ]
    processes = [
        subprocess.Popen([*map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    new = [int(re.search(r"train-0: (\d+) of", text).group(1)) for text in printed]
    assert all(new)
    rest = answered(build(binarized, *options))
    assert all(new == 0 for new, _ in rest.values())


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
        "error: say where the cache shall be: --teacher-cache DIR"
    )
